// The dense layer by tiles; the equations are those of dense.wgsl. The update of its weight is in adam.wgsl, beside.
// input [n, n_in], weight [n_out, n_in], output [n, n_out], row-major. The nets' arrays are concatenated.

override n: u32 = 1u;
override n_in: u32 = 1u;
override n_out: u32 = 1u;

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
