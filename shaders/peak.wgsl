// What a device can do at most: a matrix product, c = a b, and a stream triad, a = b + 3 c, both made to be fast at
// large sizes and nothing else. `genregrad bench --floor` times them.

// product: a [size, size], b [size, size] -> c [size, size], size a multiple of 128. A workgroup owns 128 rows and 64
// columns of c, a thread 8 rows and 4 columns: a vector of b and two of a, transposed, for 32 multiply-adds.
override size: u32 = 128u;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4f>;

const DEPTH = 16u;
const ROWS = 132u; // 128 and 4 more, so that a column's writes fall into different banks

var<workgroup> a_tile: array<f32, DEPTH * ROWS>;
var<workgroup> b_tile: array<vec4f, DEPTH * 16u>;

@compute @workgroup_size(256)
fn product(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let row = t / 16u * 8u;
    let column = t % 16u;
    var upper = mat4x4f();
    var lower = mat4x4f();
    for (var first = 0u; first < size; first += DEPTH) {
        workgroupBarrier();
        for (var e = t; e < DEPTH * 128u; e += 256u) {
            a_tile[e % DEPTH * ROWS + e / DEPTH] = a[(group.y * 128u + e / DEPTH) * size + first + e % DEPTH];
        }
        b_tile[t] = b[((first + t / 16u) * size + group.x * 64u) / 4u + t % 16u];
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let x = b_tile[k * 16u + column];
            let at = k * ROWS + row;
            upper[0] += a_tile[at] * x;
            upper[1] += a_tile[at + 1u] * x;
            upper[2] += a_tile[at + 2u] * x;
            upper[3] += a_tile[at + 3u] * x;
            lower[0] += a_tile[at + 4u] * x;
            lower[1] += a_tile[at + 5u] * x;
            lower[2] += a_tile[at + 6u] * x;
            lower[3] += a_tile[at + 7u] * x;
        }
    }
    for (var q = 0u; q < 4u; q++) {
        let at = ((group.y * 128u + row + q) * size + group.x * 64u) / 4u + column;
        c[at] = upper[q];
        c[at + size] = lower[q];
    }
}

// triad: b, c -> a, vectors of 4
@group(0) @binding(0) var<storage, read> from_b: array<vec4f>;
@group(0) @binding(1) var<storage, read> from_c: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> to_a: array<vec4f>;

@compute @workgroup_size(64)
fn triad(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < arrayLength(&to_a)) {
        to_a[i] = from_b[i] + 3.0 * from_c[i];
    }
}
