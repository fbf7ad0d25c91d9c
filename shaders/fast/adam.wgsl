// Adam whose gradient is computed on the way; the update itself is that of shaders/adam.wgsl, in place.
//   penalised:       g = grad + lambda sign(param) grad_penalty
//   dense:           g = the gradient of a dense layer's weight, sum over the batch of grad_output input
//   dense_penalised: the same, plus lambda sign(param) grad_penalty
// Arrays are row-major; the nets' arrays are concatenated.

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

@group(0) @binding(2) var<storage, read_write> param: array<f32>;
@group(0) @binding(3) var<storage, read_write> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;
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

// penalised: grad, grad_penalty -> param, m, v
// One thread per element of net z.
override len: u32 = 1u;

@group(0) @binding(0) var<storage, read> grad: array<f32>;
@group(0) @binding(1) var<storage, read> grad_penalty: array<f32>;

@compute @workgroup_size(64)
fn penalised(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < len) {
        let at = id.z * len + i;
        adam(at, grad[at] + lambda * sign(param[at]) * grad_penalty[id.z], steps[id.z]);
    }
}

// dense: grad_output, x -> param, m, v;  dense_penalised: also reads dense_grad_penalty
// grad_output [n, n_out], x [n, n_in], param, m and v [n_out, n_in]. Param, m and v move once in and once out.
// A workgroup of net z owns 64 columns of 4 outputs, whose gradients it keeps in workgroup memory, 128 rows at a time:
// each element of the input is read once for 4 outputs.
override n: u32 = 1u;
override n_in: u32 = 1u;
override n_out: u32 = 1u;

@group(0) @binding(0) var<storage, read> grad_output: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read> dense_grad_penalty: array<f32>;

const ROWS = 128u;

var<workgroup> of_rows: array<vec4f, ROWS>;

// The gradients of a thread's 4 weights.
fn gradient(t: u32, group: vec3u) -> vec4f {
    let column = group.x * 64u + t;
    var sum = vec4f();
    for (var first = 0u; first < n; first += ROWS) {
        let count = min(ROWS, n - first);
        let row = group.z * n + first;
        workgroupBarrier(); // the rows before are done with
        for (var e = t; e < count; e += 64u) {
            let o = min(vec4u(0u, 1u, 2u, 3u) + 4u * group.y, vec4u(n_out - 1u)) + (row + e) * n_out;
            of_rows[e] = vec4f(grad_output[o.x], grad_output[o.y], grad_output[o.z], grad_output[o.w]);
        }
        workgroupBarrier();
        if (column < n_in) {
            for (var e = 0u; e < count; e++) {
                sum += of_rows[e] * x[(row + e) * n_in + column];
            }
        }
    }
    return sum;
}

// Where weight q of a thread is, or the largest number if there is no such weight.
fn weight_at(t: u32, group: vec3u, q: u32) -> u32 {
    let column = group.x * 64u + t;
    let o = 4u * group.y + q;
    return select(0xffffffffu, (group.z * n_out + o) * n_in + column, o < n_out && column < n_in);
}

@compute @workgroup_size(64)
fn dense(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let g = gradient(t, group);
    for (var q = 0u; q < 4u; q++) {
        let at = weight_at(t, group, q);
        if (at != 0xffffffffu) {
            adam(at, g[q], steps[group.z]);
        }
    }
}

@compute @workgroup_size(64)
fn dense_penalised(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let g = gradient(t, group);
    for (var q = 0u; q < 4u; q++) {
        let at = weight_at(t, group, q);
        if (at != 0xffffffffu) {
            adam(at, g[q] + lambda * sign(param[at]) * dense_grad_penalty[group.z], steps[group.z]);
        }
    }
}
