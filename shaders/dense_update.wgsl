// The backward pass of a dense layer and the Adam update of its weight:
//   grad_input = grad_output weight, with the weight as it was: dense.wgsl's kernel, which runs first
//   grad = grad_output^T input, or, penalised, grad_output^T input + lambda sign(weight) grad_penalty
//   weight, m, v = Adam's update with grad, as in adam.wgsl
// input [n, n_in], grad_output [n, n_out], weight, m and v [n_out, n_in], row-major, each net's behind
// the one before; one thread owns one element written for net z.

override n: u32 = 1u;
override n_in: u32 = 1u;
override n_out: u32 = 1u;
override lambda: f32 = 1.0;
override beta1: f32 = 0.9;
override beta2: f32 = 0.999;
override log_beta1: f32 = -0.105360516; // ln(beta1)
override log_beta2: f32 = -0.0010005003; // ln(beta2)
override rest1: f32 = 0.1;   // 1 - beta1
override rest2: f32 = 0.001; // 1 - beta2
override epsilon: f32 = 1e-8;

struct Step {
    @align(16) step: u32,
    seed: u32,
    learning_rate: f32,
    first: u32,
}

// update: grad_output, input -> weight, m, v;  update_penalised: also reads grad_penalty
@group(0) @binding(0) var<storage, read> grad_output: array<f32>;
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;
@group(0) @binding(5) var<storage, read> grad_penalty: array<f32>;
@group(1) @binding(0) var<uniform> steps: array<Step, 16>; // one for each net

fn grad_weight(index: u32, net: u32) -> f32 {
    var sum = 0.0;
    for (var row = net * n; row < (net + 1u) * n; row++) {
        sum += grad_output[row * n_out + index / n_in] * input[row * n_in + index % n_in];
    }
    return sum;
}

// 1 - beta^step = -(exp(x) - 1) with x = step ln(beta). Near 0 the difference would lose its digits: a Taylor series.
fn correction(log_beta: f32, step: u32) -> f32 {
    let x = f32(step) * log_beta;
    if (x < -0.5) {
        return 1.0 - exp(x);
    }
    return -x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0))))));
}

fn adam(at: u32, g: f32, step: Step) {
    let m_new = beta1 * m[at] + rest1 * g;
    let v_new = beta2 * v[at] + rest2 * g * g;
    let rate = step.learning_rate / correction(log_beta1, step.step);
    weight[at] -= rate * m_new / (sqrt(v_new / correction(log_beta2, step.step)) + epsilon);
    m[at] = m_new;
    v[at] = v_new;
}

@compute @workgroup_size(64)
fn update(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n_out * n_in) {
        adam(id.z * n_out * n_in + index, grad_weight(index, id.z), steps[id.z]);
    }
}

@compute @workgroup_size(64)
fn update_penalised(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n_out * n_in) {
        let at = id.z * n_out * n_in + index;
        let penalty = lambda * sign(weight[at]) * grad_penalty[id.z];
        adam(at, grad_weight(index, id.z) + penalty, steps[id.z]);
    }
}
