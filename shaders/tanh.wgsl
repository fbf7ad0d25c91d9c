// tanh: y = tanh(x);   dx = (1 - y^2) * dy.
// Arrays are flat; the nets' arrays are concatenated. One thread per element of net z.

override len: u32 = 1u;

// forward: input -> output
@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < len) {
        let at = id.z * len + i;
        // Drivers compute tanh from exp, which overflows for large |x|; beyond 10 the result is 1 in f32.
        output[at] = tanh(clamp(input[at], -10.0, 10.0));
    }
}

// grad_input: output, grad_output -> grad_input
@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> grad_output: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad_input_: array<f32>;

@compute @workgroup_size(64)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < len) {
        let at = id.z * len + i;
        grad_input_[at] = (1.0 - y[at] * y[at]) * grad_output[at];
    }
}
