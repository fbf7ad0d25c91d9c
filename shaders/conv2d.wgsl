// Convolution (cross-correlation), stride 1, with `top` and `left` zeros before the input:
//   output[n, o, i, j]      = bias[o] + sum_{c, r, s} weight[o, c, r, s] input[n, c, i + r - top, j + s - left]
//   grad_input[n, c, y, x]  = sum_{o, r, s} weight[o, c, r, s] grad_output[n, o, y + top - r, x + left - s]
//   grad_weight[o, c, r, s] = sum_{n, i, j} grad_output[n, o, i, j] input[n, c, i + r - top, j + s - left]
//   grad_bias[o]            = sum_{n, i, j} grad_output[n, o, i, j]
// input [n, c_in, h, w], weight [c_out, c_in, k_h, k_w], output [n, c_out, h_out, w_out], row-major,
// concatenated for all nets. One thread owns one output element of net z and sums in a fixed order. An index
// below zero wraps to a large u32, so that `y < h` alone tells the input from the padding.

override n: u32 = 1u;
override c_in: u32 = 1u;
override h: u32 = 1u;
override w: u32 = 1u;
override c_out: u32 = 1u;
override k_h: u32 = 1u;
override k_w: u32 = 1u;
override top: u32 = 0u;
override left: u32 = 0u;
override h_out: u32 = 1u;
override w_out: u32 = 1u;

// forward: input, weight -> output;  forward_bias: also reads bias
@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;

// `index` counts through all nets' outputs.
fn correlate(index: u32) -> f32 {
    let image = index / (c_out * h_out * w_out);
    let o = image / n * c_out + index / (h_out * w_out) % c_out;
    let i = index / w_out % h_out;
    let j = index % w_out;
    var sum = 0.0;
    for (var c = 0u; c < c_in; c++) {
        for (var r = 0u; r < k_h; r++) {
            let y = i + r - top;
            if (y < h) {
                let input_row = ((image * c_in + c) * h + y) * w;
                let weight_row = ((o * c_in + c) * k_h + r) * k_w;
                for (var s = 0u; s < k_w; s++) {
                    let x = j + s - left;
                    if (x < w) {
                        sum += weight[weight_row + s] * input[input_row + x];
                    }
                }
            }
        }
    }
    return sum;
}

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n * c_out * h_out * w_out) {
        let at = id.z * n * c_out * h_out * w_out + index;
        output[at] = correlate(at);
    }
}

@compute @workgroup_size(64)
fn forward_bias(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n * c_out * h_out * w_out) {
        let at = id.z * n * c_out * h_out * w_out + index;
        output[at] = bias[id.z * c_out + index / (h_out * w_out) % c_out] + correlate(at);
    }
}

// grad_input: grad_output, weight -> grad_input
@group(0) @binding(0) var<storage, read> grad_output: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad_input_: array<f32>;

@compute @workgroup_size(64)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n * c_in * h * w) {
        let image = id.z * n + index / (c_in * h * w);
        let c = index / (h * w) % c_in;
        let y = index / w % h;
        let x = index % w;
        var sum = 0.0;
        for (var o = 0u; o < c_out; o++) {
            for (var r = 0u; r < k_h; r++) {
                let i = y + top - r;
                if (i < h_out) {
                    let grad_row = ((image * c_out + o) * h_out + i) * w_out;
                    let weight_row = (((id.z * c_out + o) * c_in + c) * k_h + r) * k_w;
                    for (var s = 0u; s < k_w; s++) {
                        let j = x + left - s;
                        if (j < w_out) {
                            sum += weight[weight_row + s] * grad_output[grad_row + j];
                        }
                    }
                }
            }
        }
        grad_input_[id.z * n * c_in * h * w + index] = sum;
    }
}

// grad_weight: grad_output, input -> grad_weight
@group(0) @binding(1) var<storage, read> conv_input: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad_weight_: array<f32>;

@compute @workgroup_size(64)
fn grad_weight(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < c_out * c_in * k_h * k_w) {
        let o = index / (c_in * k_h * k_w);
        let c = index / (k_h * k_w) % c_in;
        let r = index / k_w % k_h;
        let s = index % k_w;
        var sum = 0.0;
        for (var image = id.z * n; image < (id.z + 1u) * n; image++) {
            // A sum of its own for each image keeps the rounding error small.
            var image_sum = 0.0;
            for (var i = 0u; i < h_out; i++) {
                let y = i + r - top;
                if (y < h) {
                    let grad_row = ((image * c_out + o) * h_out + i) * w_out;
                    let input_row = ((image * c_in + c) * h + y) * w;
                    for (var j = 0u; j < w_out; j++) {
                        let x = j + s - left;
                        if (x < w) {
                            image_sum += grad_output[grad_row + j] * conv_input[input_row + x];
                        }
                    }
                }
            }
            sum += image_sum;
        }
        grad_weight_[id.z * c_out * c_in * k_h * k_w + index] = sum;
    }
}

// grad_bias: grad_output -> grad_bias
@group(0) @binding(1) var<storage, read_write> grad_bias_: array<f32>;

@compute @workgroup_size(64)
fn grad_bias(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let o = id.x + id.y * groups.x * 64u;
    if (o < c_out) {
        var sum = 0.0;
        for (var image = id.z * n; image < (id.z + 1u) * n; image++) {
            var image_sum = 0.0;
            for (var i = 0u; i < h_out * w_out; i++) {
                image_sum += grad_output[(image * c_out + o) * h_out * w_out + i];
            }
            sum += image_sum;
        }
        grad_bias_[id.z * c_out + o] = sum;
    }
}
