// LeakyReLU: y = x for x > 0, else slope * x;   dx = dy for x > 0, else slope * dy.
// Arrays are flat; the nets' arrays are concatenated. One thread per element of net z.

override len: u32 = 1u;
override slope: f32 = 0.0;

// forward: input -> output
@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < len) {
        let at = id.z * len + i;
        let x = input[at];
        output[at] = select(slope * x, x, x > 0.0);
    }
}

// grad_input: input, grad_output -> grad_input
@group(0) @binding(1) var<storage, read> grad_output: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad_input_: array<f32>;

@compute @workgroup_size(64)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < len) {
        let at = id.z * len + i;
        let dy = grad_output[at];
        grad_input_[at] = select(slope * dy, dy, input[at] > 0.0);
    }
}
