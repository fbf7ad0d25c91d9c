// Rows of a table into a batch: out[slot] = table[order[steps[net].first + slot]], or `filled` where the list has no row.
// A table that is too large for one binding comes in parts, one dispatch each: part rows `first` to `first + rows`.
// table [rows, row_len], order [places], out [batch, row_len] of net `net`, behind those of the nets before, row-major;
// one thread owns one element of out. With several parts every element is written by the one that holds its row; the
// part that starts at 0 fills.

override first: u32 = 0u;
override rows: u32 = 1u;
override row_len: u32 = 1u;
override batch: u32 = 1u;
override filled: f32 = 0.0;
override net: u32 = 0u;     // the net that is fed

struct Step {
    @align(16) step: u32,
    seed: u32,
    learning_rate: f32,
    first: u32,
}

// gather: table, order -> out
@group(0) @binding(0) var<storage, read> table: array<f32>;
@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(1) @binding(0) var<uniform> steps: array<Step, 16>; // one for each net

@compute @workgroup_size(64)
fn gather(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < batch * row_len) {
        // The largest number marks a place without a row: wrapped, it is beyond every part.
        let at = net * batch * row_len + index;
        let row = order[steps[net].first + index / row_len];
        if (row - first < rows) {
            out[at] = table[(row - first) * row_len + index % row_len];
        } else if (row == 0xffffffffu && first == 0u) {
            out[at] = filled;
        }
    }
}
