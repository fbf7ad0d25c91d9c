// The gradient of a dense layer's weight and its Adam update by tiles; the equations are those of dense_update.wgsl.
// input [n, n_in], grad_output [n, n_out], weight, m and v [n_out, n_in], row-major.
// A workgroup owns 64 columns of 4 outputs, whose gradients it keeps in workgroup memory, 128 rows at a time: each
// element of the input is read once for 4 outputs, and weight, m and v move once in and once out.

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

const ROWS = 128u;

var<workgroup> of_rows: array<vec4f, ROWS>;

fn grad_weight(t: u32, group: vec3u) -> vec4f {
    let column = group.x * 64u + t;
    var sum = vec4f();
    for (var first = 0u; first < n; first += ROWS) {
        let count = min(ROWS, n - first);
        workgroupBarrier(); // the rows before are done with
        for (var e = t; e < count; e += 64u) {
            let o = min(vec4u(0u, 1u, 2u, 3u) + 4u * group.y, vec4u(n_out - 1u)) + (first + e) * n_out;
            of_rows[e] = vec4f(grad_output[o.x], grad_output[o.y], grad_output[o.z], grad_output[o.w]);
        }
        workgroupBarrier();
        if (column < n_in) {
            for (var e = 0u; e < count; e++) {
                sum += of_rows[e] * input[(first + e) * n_in + column];
            }
        }
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

// update: grad_output, input -> weight, m, v
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;

@compute @workgroup_size(64)
fn update(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let g = grad_weight(t, group);
    let column = group.x * 64u + t;
    for (var q = 0u; q < 4u; q++) {
        let o = 4u * group.y + q;
        if (o < n_out && column < n_in) {
            let index = o * n_in + column;
            let after = updated(vec3f(weight[index], m[index], v[index]), g[q]);
            weight[index] = after.x;
            m[index] = after.y;
            v[index] = after.z;
        }
    }
}

// update_penalised: grad_output, input, grad_penalty -> weight, m, v
@group(0) @binding(2) var<storage, read> grad_penalty: array<f32>;
@group(0) @binding(3) var<storage, read_write> weight_: array<f32>;
@group(0) @binding(4) var<storage, read_write> m_: array<f32>;
@group(0) @binding(5) var<storage, read_write> v_: array<f32>;

@compute @workgroup_size(64)
fn update_penalised(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let g = grad_weight(t, group);
    let column = group.x * 64u + t;
    for (var q = 0u; q < 4u; q++) {
        let o = 4u * group.y + q;
        if (o < n_out && column < n_in) {
            let index = o * n_in + column;
            let full = g[q] + lambda * sign(weight_[index]) * grad_penalty[0];
            let after = updated(vec3f(weight_[index], m_[index], v_[index]), full);
            weight_[index] = after.x;
            m_[index] = after.y;
            v_[index] = after.z;
        }
    }
}
