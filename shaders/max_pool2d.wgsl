// Max-pooling with stride = window: output = max over the window, argmax = index h * W + w of the first maximum in the plane.
// grad_input: each input element takes its window's gradient if it is the argmax, else 0.
// input [planes, h, w], output and argmax [planes, h / k_h, w / k_w]; the nets' planes are
// concatenated. One thread owns one output element of net z.

override planes: u32 = 1u;
override h: u32 = 1u;
override w: u32 = 1u;
override k_h: u32 = 1u;
override k_w: u32 = 1u;

// forward: input -> output, argmax
@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;
@group(0) @binding(2) var<storage, read_write> argmax: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let out_h = h / k_h;
    let out_w = w / k_w;
    let index = id.x + id.y * groups.x * 64u;
    if (index < planes * out_h * out_w) {
        let plane = id.z * planes + index / (out_h * out_w);
        let i = index / out_w % out_h;
        let j = index % out_w;
        let first = i * k_h * w + j * k_w;
        var place = first;
        var best = input[plane * h * w + first];
        for (var r = 0u; r < k_h; r++) {
            for (var s = 0u; s < k_w; s++) {
                let x = input[plane * h * w + first + r * w + s];
                if (x > best) {
                    best = x;
                    place = first + r * w + s;
                }
            }
        }
        let at = id.z * planes * out_h * out_w + index;
        output[at] = best;
        argmax[at] = f32(place);
    }
}

// grad_input: grad_output, argmax -> grad_input
@group(0) @binding(0) var<storage, read> grad_output: array<f32>;
@group(0) @binding(1) var<storage, read> winner: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad_input_: array<f32>;

@compute @workgroup_size(64)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let out_h = h / k_h;
    let out_w = w / k_w;
    let index = id.x + id.y * groups.x * 64u;
    if (index < planes * h * w) {
        let plane = id.z * planes + index / (h * w);
        let place = index % (h * w);
        let i = place / w / k_h;
        let j = place % w / k_w;
        var grad = 0.0;
        if (i < out_h && j < out_w) {
            let window = (plane * out_h + i) * out_w + j;
            if (winner[window] == f32(place)) {
                grad = grad_output[window];
            }
        }
        grad_input_[id.z * planes * h * w + index] = grad;
    }
}
