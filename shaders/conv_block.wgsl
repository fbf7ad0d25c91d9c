// Convolution, bias, activation and max-pooling as one, and its gradients; see conv2d.wgsl for the convolution alone.
//   pooled[n, o, p, q] = activation(bias[o] + max over window (p, q) of the convolution), argmax = the first winner's
//   place i * w_out + j in its plane. The activation (LeakyReLU, or tanh where `saturating` is 1) keeps order, so the
//   winner is found before it. Only winners have a gradient, g = grad_pooled * slope(pooled):
//   grad_weight[o, c, r, s] = sum_{n, p, q} g[n, o, p, q] input[n, c, i + r - top, j + s - left]
//   grad_bias[o]            = sum_{n, p, q} g[n, o, p, q]
//   grad_input[n, c, y, x]  = sum_{o, r, s} weight[o, c, r, s] g of the window whose winner is (y + top - r, x + left - s)
// input [n, c_in, h, w], weight [c_out, c_in, k_h, k_w], pooled and argmax [n, c_out, h_out / pool_h, w_out / pool_w].
// Each net's arrays lie behind those of the one before. One thread owns one element written for net z (forward: of both
// outputs) and sums in a fixed order. An index below zero wraps to a large u32, so that `y < h` alone tells the input
// from the padding.

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
override pool_h: u32 = 1u;
override pool_w: u32 = 1u;
override saturating: u32 = 0u;
override slope: f32 = 0.0;

// forward: input, weight -> pooled, argmax;  forward_bias: also reads bias
@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;
@group(0) @binding(3) var<storage, read_write> winner: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;

// `image` counts through all nets' images, `o` through their channels.
fn correlate(image: u32, o: u32, i: u32, j: u32) -> f32 {
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

struct Winner {
    value: f32,
    place: u32,
}

// `index` counts through all nets' windows.
fn find(index: u32) -> Winner {
    let h_p = h_out / pool_h;
    let w_p = w_out / pool_w;
    let image = index / (c_out * h_p * w_p);
    let o = image / n * c_out + index / (h_p * w_p) % c_out;
    let i = index / w_p % h_p * pool_h;
    let j = index % w_p * pool_w;
    var best = Winner(correlate(image, o, i, j), i * w_out + j);
    for (var place = 1u; place < pool_h * pool_w; place++) {
        let r = i + place / pool_w;
        let s = j + place % pool_w;
        let value = correlate(image, o, r, s);
        if (value > best.value) {
            best = Winner(value, r * w_out + s);
        }
    }
    return best;
}

fn activate(x: f32) -> f32 {
    if (saturating == 1u) {
        // Drivers compute tanh from exp, which overflows for large |x|; beyond 10 the result is 1 in f32.
        return tanh(clamp(x, -10.0, 10.0));
    }
    return select(slope * x, x, x > 0.0);
}

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    let windows = (h_out / pool_h) * (w_out / pool_w);
    if (index < n * c_out * windows) {
        let at = id.z * n * c_out * windows + index;
        let best = find(at);
        output[at] = activate(best.value);
        winner[at] = f32(best.place);
    }
}

@compute @workgroup_size(64)
fn forward_bias(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    let windows = (h_out / pool_h) * (w_out / pool_w);
    if (index < n * c_out * windows) {
        let at = id.z * n * c_out * windows + index;
        let best = find(at);
        output[at] = activate(best.value + bias[id.z * c_out + index / windows % c_out]);
        winner[at] = f32(best.place);
    }
}

// grad_*: grad_pooled, pooled, argmax, input, weight -> grad_weight, grad_bias or grad_input
@group(0) @binding(0) var<storage, read> grad_pooled: array<f32>;
@group(0) @binding(1) var<storage, read> pooled: array<f32>;
@group(0) @binding(2) var<storage, read> argmax: array<f32>;
@group(0) @binding(3) var<storage, read> conv_input: array<f32>;
@group(0) @binding(4) var<storage, read> conv_weight: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad_weight_: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad_bias_: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad_input_: array<f32>;

fn grad_at(window: u32) -> f32 {
    let y = pooled[window];
    if (saturating == 1u) {
        return (1.0 - y * y) * grad_pooled[window];
    }
    return select(slope, 1.0, y > 0.0) * grad_pooled[window];
}

@compute @workgroup_size(64)
fn grad_weight(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < c_out * c_in * k_h * k_w) {
        let o = index / (c_in * k_h * k_w);
        let c = index / (k_h * k_w) % c_in;
        let r = index / k_w % k_h;
        let s = index % k_w;
        let windows = (h_out / pool_h) * (w_out / pool_w);
        var sum = 0.0;
        for (var image = id.z * n; image < (id.z + 1u) * n; image++) {
            // A sum of its own for each image keeps the rounding error small.
            var image_sum = 0.0;
            for (var p = 0u; p < windows; p++) {
                let window = (image * c_out + o) * windows + p;
                let place = u32(argmax[window]);
                let y = place / w_out + r - top;
                let x = place % w_out + s - left;
                if (y < h && x < w) {
                    image_sum += grad_at(window) * conv_input[((image * c_in + c) * h + y) * w + x];
                }
            }
            sum += image_sum;
        }
        grad_weight_[id.z * c_out * c_in * k_h * k_w + index] = sum;
    }
}

@compute @workgroup_size(64)
fn grad_bias(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let o = id.x + id.y * groups.x * 64u;
    if (o < c_out) {
        let windows = (h_out / pool_h) * (w_out / pool_w);
        var sum = 0.0;
        for (var image = id.z * n; image < (id.z + 1u) * n; image++) {
            var image_sum = 0.0;
            for (var p = 0u; p < windows; p++) {
                image_sum += grad_at((image * c_out + o) * windows + p);
            }
            sum += image_sum;
        }
        grad_bias_[id.z * c_out + o] = sum;
    }
}

@compute @workgroup_size(64)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    if (index < n * c_in * h * w) {
        let h_p = h_out / pool_h;
        let w_p = w_out / pool_w;
        let image = id.z * n + index / (c_in * h * w);
        let c = index / (h * w) % c_in;
        let y = index / w % h;
        let x = index % w;
        var sum = 0.0;
        for (var o = 0u; o < c_out; o++) {
            for (var r = 0u; r < k_h; r++) {
                let i = y + top - r;
                if (i / pool_h < h_p) {
                    let windows_row = ((image * c_out + o) * h_p + i / pool_h) * w_p;
                    let weight_row = (((id.z * c_out + o) * c_in + c) * k_h + r) * k_w;
                    for (var s = 0u; s < k_w; s++) {
                        let j = x + left - s;
                        if (j / pool_w < w_p) {
                            let window = windows_row + j / pool_w;
                            if (argmax[window] == f32(i * w_out + j)) {
                                sum += conv_weight[weight_row + s] * grad_at(window);
                            }
                        }
                    }
                }
            }
        }
        grad_input_[id.z * n * c_in * h * w + index] = sum;
    }
}
