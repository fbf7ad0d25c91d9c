// Dense layer: output[n, o] = bias[o] + sum_i weight[o, i] input[n, i], and its gradients:
//   grad_input = grad_output weight;  grad_weight = grad_output^T input;  grad_bias[o] = sum_n grad_output[n, o]
// input [n, n_in], weight [n_out, n_in], output [n, n_out], row-major; the nets' arrays are concatenated;
// one thread owns one element written for net z.

override n: u32 = 1u;
override n_in: u32 = 1u;
override n_out: u32 = 1u;

// forward: input, weight, bias -> output
@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n * n_out) {
        let row = id.z * n + index / n_out;
        let o = id.z * n_out + index % n_out;
        var sum = 0.0;
        for (var i = 0u; i < n_in; i++) {
            sum += weight[o * n_in + i] * input[row * n_in + i];
        }
        output[id.z * n * n_out + index] = sum + bias[o];
    }
}

// grad_input: grad_output, weight -> grad_input
@group(0) @binding(0) var<storage, read> grad_output: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad_input_: array<f32>;

@compute @workgroup_size(64)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n * n_in) {
        let row = id.z * n + index / n_in;
        let i = index % n_in;
        var sum = 0.0;
        for (var o = 0u; o < n_out; o++) {
            sum += grad_output[row * n_out + o] * weight[(id.z * n_out + o) * n_in + i];
        }
        grad_input_[row * n_in + i] = sum;
    }
}

// grad_weight: grad_output, input -> grad_weight
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad_weight_: array<f32>;

@compute @workgroup_size(64)
fn grad_weight(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n_out * n_in) {
        let o = index / n_in;
        let i = index % n_in;
        var sum = 0.0;
        for (var row = id.z * n; row < (id.z + 1u) * n; row++) {
            sum += grad_output[row * n_out + o] * x[row * n_in + i];
        }
        grad_weight_[id.z * n_out * n_in + index] = sum;
    }
}

// grad_bias: grad_output -> grad_bias
@group(0) @binding(1) var<storage, read_write> grad_bias_: array<f32>;

@compute @workgroup_size(64)
fn grad_bias(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let o = id.x + id.y * groups.x * 64u;
    if (o < n_out) {
        var sum = 0.0;
        for (var row = id.z * n; row < (id.z + 1u) * n; row++) {
            sum += grad_output[row * n_out + o];
        }
        grad_bias_[id.z * n_out + o] = sum;
    }
}
