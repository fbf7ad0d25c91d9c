// Adam (Kingma and Ba 2015, algorithm 1), in place:
//   m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2
//   parameter -= learning_rate (m / correction1) / (sqrt(v / correction2) + epsilon)
// or, penalised, with g + lambda sign(parameter) grad_penalty in the place of g.
// The corrections 1 - beta^t come from the host, computed in f64. Arrays are flat; one thread owns one element.

override len: u32 = 1u;
override beta1: f32 = 0.9;
override beta2: f32 = 0.999;
override rest1: f32 = 0.1;   // 1 - beta1
override rest2: f32 = 0.001; // 1 - beta2
override epsilon: f32 = 1e-8;
override lambda: f32 = 1.0;

struct Step {
    step: u32,
    seed: u32,
    learning_rate: f32,
    correction1: f32,
    correction2: f32,
}

// update: grad -> param, m, v
@group(0) @binding(0) var<storage, read> grad: array<f32>;
@group(0) @binding(1) var<storage, read_write> param: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(1) @binding(0) var<uniform> step: Step;

@compute @workgroup_size(64)
fn update(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < len) {
        let g = grad[i];
        m[i] = beta1 * m[i] + rest1 * g;
        v[i] = beta2 * v[i] + rest2 * g * g;
        let rate = step.learning_rate / step.correction1;
        param[i] -= rate * m[i] / (sqrt(v[i] / step.correction2) + epsilon);
    }
}

// update_penalised: grad, grad_penalty -> param, m, v
@group(0) @binding(1) var<storage, read> grad_penalty: array<f32>;
@group(0) @binding(2) var<storage, read_write> param_: array<f32>;
@group(0) @binding(3) var<storage, read_write> m_: array<f32>;
@group(0) @binding(4) var<storage, read_write> v_: array<f32>;

@compute @workgroup_size(64)
fn update_penalised(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < len) {
        let g = grad[i] + lambda * sign(param_[i]) * grad_penalty[0];
        m_[i] = beta1 * m_[i] + rest1 * g;
        v_[i] = beta2 * v_[i] + rest2 * g * g;
        let rate = step.learning_rate / step.correction1;
        param_[i] -= rate * m_[i] / (sqrt(v_[i] / step.correction2) + epsilon);
    }
}
