// Adam, in place, with the gradient of an L1 penalty added on the way:
//   g = grad + lambda sign(parameter) grad_penalty;   then the update of adam.wgsl with g
// The corrections 1 - beta^t come from the host, computed in f64. Arrays are flat,
// each net's behind the one before; one thread owns one element of net z.

override len: u32 = 1u;
override beta1: f32 = 0.9;
override beta2: f32 = 0.999;
override rest1: f32 = 0.1;   // 1 - beta1
override rest2: f32 = 0.001; // 1 - beta2
override epsilon: f32 = 1e-8;
override lambda: f32 = 1.0;

struct Step {
    @align(16) step: u32,
    seed: u32,
    learning_rate: f32,
    correction1: f32,
    correction2: f32,
}

// update: grad, grad_penalty -> param, m, v
@group(0) @binding(0) var<storage, read> grad: array<f32>;
@group(0) @binding(1) var<storage, read_write> param: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(0) @binding(4) var<storage, read> grad_penalty: array<f32>;
@group(1) @binding(0) var<uniform> steps: array<Step, 16>; // one for each net

fn adam(at: u32, g: f32, step: Step) {
    let m_new = beta1 * m[at] + rest1 * g;
    let v_new = beta2 * v[at] + rest2 * g * g;
    let rate = step.learning_rate / step.correction1;
    param[at] -= rate * m_new / (sqrt(v_new / step.correction2) + epsilon);
    m[at] = m_new;
    v[at] = v_new;
}

@compute @workgroup_size(64)
fn update(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < len) {
        let at = id.z * len + i;
        adam(at, grad[at] + lambda * sign(param[at]) * grad_penalty[id.z], steps[id.z]);
    }
}
