// Adam, in place, with the gradient of an L1 penalty added on the way:
//   g = grad + lambda sign(parameter) grad_penalty;   then the update of adam.wgsl with g
// Arrays are flat; the nets' arrays are concatenated. One thread per element of net z.

override len: u32 = 1u;
override beta1: f32 = 0.9;
override beta2: f32 = 0.999;
override log_beta1: f32 = -0.105360516; // ln(beta1)
override log_beta2: f32 = -0.0010005003; // ln(beta2)
override rest1: f32 = 0.1;   // 1 - beta1
override rest2: f32 = 0.001; // 1 - beta2
override epsilon: f32 = 1e-8;
override lambda: f32 = 1.0;

struct Step {
    @align(16) step: u32,
    seed: u32,
    learning_rate: f32,
    first: u32,
}

// update: grad, grad_penalty -> param, m, v
@group(0) @binding(0) var<storage, read> grad: array<f32>;
@group(0) @binding(1) var<storage, read_write> param: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(0) @binding(4) var<storage, read> grad_penalty: array<f32>;
@group(1) @binding(0) var<uniform> steps: array<Step, 16>; // one for each net

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
    param[at] -= rate * m_new / (sqrt(v_new / correction(log_beta2, step.step)) + epsilon);
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
