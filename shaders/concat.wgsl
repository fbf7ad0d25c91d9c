// Concatenation along the second axis: output[n] = (a[n], b[n]); its gradient cuts the columns out again.
// a [n, a_cols], b [n, b_cols], output [n, a_cols + b_cols], row-major; the nets' rows are
// concatenated. One thread owns one output element of net z.

override n: u32 = 1u;
override a_cols: u32 = 1u;
override b_cols: u32 = 1u;
override first: u32 = 0u; // grad_input: the columns first .. first + cols
override cols: u32 = 1u;

// forward: a, b -> output
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < n * (a_cols + b_cols)) {
        let row = id.z * n + i / (a_cols + b_cols);
        let col = i % (a_cols + b_cols);
        if (col < a_cols) {
            output[row * (a_cols + b_cols) + col] = a[row * a_cols + col];
        } else {
            output[row * (a_cols + b_cols) + col] = b[row * b_cols + col - a_cols];
        }
    }
}

// grad_input: grad_output -> grad_input
@group(0) @binding(0) var<storage, read> grad_output: array<f32>;
@group(0) @binding(1) var<storage, read_write> grad_input_: array<f32>;

@compute @workgroup_size(64)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < n * cols) {
        let row = id.z * n + i / cols;
        grad_input_[row * cols + i % cols] = grad_output[row * (a_cols + b_cols) + first + i % cols];
    }
}
