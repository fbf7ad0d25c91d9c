// The backward pass of a dense layer and the Adam update of its weight:
//   grad_input = grad_output weight, with the weight as it was; this kernel runs first
//   grad = grad_output^T input, or, penalised, grad_output^T input + lambda sign(weight) grad_penalty
//   weight, m, v = Adam's update with grad, as in adam.wgsl
// input [n, n_in], grad_output [n, n_out], weight, m and v [n_out, n_in], row-major; one thread owns one element written.

override n: u32 = 1u;
override n_in: u32 = 1u;
override n_out: u32 = 1u;
override lambda: f32 = 1.0;
override beta1: f32 = 0.9;
override beta2: f32 = 0.999;
override rest1: f32 = 0.1;   // 1 - beta1
override rest2: f32 = 0.001; // 1 - beta2
override epsilon: f32 = 1e-8;

struct Step {
    step: u32,
    seed: u32,
    learning_rate: f32,
    correction1: f32,
    correction2: f32,
}

@group(0) @binding(0) var<storage, read> grad_output: array<f32>;
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(1) @binding(0) var<uniform> step: Step;

fn grad_weight(index: u32) -> f32 {
    var sum = 0.0;
    for (var row = 0u; row < n; row++) {
        sum += grad_output[row * n_out + index / n_in] * input[row * n_in + index % n_in];
    }
    return sum;
}

// Weight, m and v after Adam's step with gradient g.
fn updated(old: vec3f, g: f32) -> vec3f {
    let m_new = beta1 * old.y + rest1 * g;
    let v_new = beta2 * old.z + rest2 * g * g;
    let rate = step.learning_rate / step.correction1;
    return vec3f(old.x - rate * m_new / (sqrt(v_new / step.correction2) + epsilon), m_new, v_new);
}

// grad_input, update: grad_output, input -> weight, m, v, grad_input
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad_input_: array<f32>;

@compute @workgroup_size(64)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n * n_in) {
        var sum = 0.0;
        for (var o = 0u; o < n_out; o++) {
            sum += grad_output[index / n_in * n_out + o] * weight[o * n_in + index % n_in];
        }
        grad_input_[index] = sum;
    }
}

@compute @workgroup_size(64)
fn update(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n_out * n_in) {
        let g = grad_weight(index);
        let after = updated(vec3f(weight[index], m[index], v[index]), g);
        weight[index] = after.x;
        m[index] = after.y;
        v[index] = after.z;
    }
}

// grad_input_penalised, update_penalised: grad_output, input, grad_penalty -> weight, m, v, grad_input
@group(0) @binding(2) var<storage, read> grad_penalty: array<f32>;
@group(0) @binding(3) var<storage, read_write> weight_: array<f32>;
@group(0) @binding(4) var<storage, read_write> m_: array<f32>;
@group(0) @binding(5) var<storage, read_write> v_: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_input__: array<f32>;

@compute @workgroup_size(64)
fn grad_input_penalised(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n * n_in) {
        var sum = 0.0;
        for (var o = 0u; o < n_out; o++) {
            sum += grad_output[index / n_in * n_out + o] * weight_[o * n_in + index % n_in];
        }
        grad_input__[index] = sum;
    }
}

@compute @workgroup_size(64)
fn update_penalised(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n_out * n_in) {
        let g = grad_weight(index) + lambda * sign(weight_[index]) * grad_penalty[0];
        let after = updated(vec3f(weight_[index], m_[index], v_[index]), g);
        weight_[index] = after.x;
        m_[index] = after.y;
        v_[index] = after.z;
    }
}
