// The dense layer by tiles, and the Adam update of its weight; the equations are those of dense.wgsl and
// adam.wgsl.
// input [n, n_in], weight, m and v [n_out, n_in], output [n, n_out], row-major. The nets' arrays are concatenated.

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

// forward: input, weight, bias -> output
// A workgroup of net z owns 4 outputs of 4 rows. Thread t sums the products of elements t, t + 128, ...; then half of the
// threads add the other half's sums, and so on. What lies beyond the last output or row repeats it and is not written.
@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

const THREADS = 128u;

var<workgroup> sums: array<mat4x4f, THREADS>; // a column for each row of the input, 4 outputs in it

@compute @workgroup_size(128)
fn forward(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let o = (min(vec4u(0u, 1u, 2u, 3u) + 4u * group.x, vec4u(n_out - 1u)) + group.z * n_out) * n_in;
    let rows = (min(vec4u(0u, 1u, 2u, 3u) + 4u * group.y, vec4u(n - 1u)) + group.z * n) * n_in;
    var sum = mat4x4f();
    for (var i = t; i < n_in; i += THREADS) {
        let k = vec4f(weight[o.x + i], weight[o.y + i], weight[o.z + i], weight[o.w + i]);
        sum[0] += k * input[rows.x + i];
        sum[1] += k * input[rows.y + i];
        sum[2] += k * input[rows.z + i];
        sum[3] += k * input[rows.w + i];
    }
    sums[t] = sum;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (t < half) {
            sums[t] += sums[t + half];
        }
    }
    workgroupBarrier();
    let row = 4u * group.y + t / 4u;
    let column = 4u * group.x + t % 4u;
    if (t < 16u && row < n && column < n_out) {
        output[(group.z * n + row) * n_out + column] = sums[0][t / 4u][t % 4u] + bias[group.z * n_out + column];
    }
}

// grad_input: grad_output, weight -> partial [slices, n, n_in], or grad_input itself where one slice is all.
// A workgroup of net z owns 64 columns of 16 rows and sums over its slice of 32 outputs, whose gradients it keeps in
// workgroup memory: each weight is read once for 16 rows.
override slices: u32 = 1u;

@group(0) @binding(0) var<storage, read> grad_output: array<f32>;
@group(0) @binding(2) var<storage, read_write> partial_: array<f32>;

const SLICE = 32u;

var<workgroup> grads: array<vec4f, 4u * SLICE>; // of each output the 16 rows', 4 in a vector

@compute @workgroup_size(64)
fn grad_input(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let slice = group.y % slices;
    let rows = group.y / slices * 16u;
    let first = slice * SLICE;
    let count = min(SLICE, n_out - first);
    for (var e = t; e < 4u * count; e += 64u) {
        var g = vec4f();
        for (var q = 0u; q < 4u; q++) {
            let row = rows + e % 4u * 4u + q;
            if (row < n) {
                g[q] = grad_output[(group.z * n + row) * n_out + first + e / 4u];
            }
        }
        grads[e] = g;
    }
    workgroupBarrier();
    let column = group.x * 64u + t;
    if (column < n_in) {
        var sum = mat4x4f();
        for (var o = 0u; o < count; o++) {
            let k = weight[(group.z * n_out + first + o) * n_in + column];
            sum[0] += grads[4u * o] * k;
            sum[1] += grads[4u * o + 1u] * k;
            sum[2] += grads[4u * o + 2u] * k;
            sum[3] += grads[4u * o + 3u] * k;
        }
        for (var q = 0u; q < 16u; q++) {
            if (rows + q < n) {
                partial_[((group.z * slices + slice) * n + rows + q) * n_in + column] = sum[q / 4u][q % 4u];
            }
        }
    }
}

// total: partial -> grad_input; one thread owns one element of net z and adds the slices up, in order
@group(0) @binding(0) var<storage, read> slices_: array<f32>;
@group(0) @binding(1) var<storage, read_write> grad_input_: array<f32>;

@compute @workgroup_size(64)
fn total(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n * n_in) {
        var sum = 0.0;
        for (var k = 0u; k < slices; k++) {
            sum += slices_[(id.z * slices + k) * n * n_in + index];
        }
        grad_input_[id.z * n * n_in + index] = sum;
    }
}

// The gradient of the weight, from grad_output and input.
// A workgroup of net z owns 64 columns of 4 outputs, whose gradients it keeps in workgroup memory, 128 rows at a time:
// each element of the input is read once for 4 outputs.
@group(0) @binding(1) var<storage, read> x: array<f32>;

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

// update: grad_output, input -> weight, m, v;  update_penalised: also reads grad_penalty
// Weight, m and v move once in and once out.
struct Step {
    @align(16) step: u32,
    seed: u32,
    learning_rate: f32,
    first: u32,
}

@group(0) @binding(2) var<storage, read_write> weight_: array<f32>;
@group(0) @binding(3) var<storage, read_write> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;
@group(0) @binding(5) var<storage, read> grad_penalty: array<f32>;
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
    weight_[at] -= rate * m_new / (sqrt(v_new / correction(log_beta2, step.step)) + epsilon);
    m[at] = m_new;
    v[at] = v_new;
}

@compute @workgroup_size(64)
fn update(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let g = gradient(t, group);
    for (var q = 0u; q < 4u; q++) {
        let at = weight_at(t, group, q);
        if (at != 0xffffffffu) {
            adam(at, g[q], steps[group.z]);
        }
    }
}

@compute @workgroup_size(64)
fn update_penalised(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let g = gradient(t, group);
    for (var q = 0u; q < 4u; q++) {
        let at = weight_at(t, group, q);
        if (at != 0xffffffffu) {
            adam(at, g[q] + lambda * sign(weight_[at]) * grad_penalty[group.z], steps[group.z]);
        }
    }
}
