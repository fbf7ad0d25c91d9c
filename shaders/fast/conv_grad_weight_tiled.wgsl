// The gradients of a convolution's weight and bias by tiles; the equations are those of conv2d.wgsl:
//   grad_weight[o, c, r, s] = sum over the gradients g of channel o, at (image, i, j), of g input[image, c, i + r - top, j + s - left]
//   grad_bias[o]            = sum of the gradients of channel o
// The gradients are those of the windows of a pool, each at its argmax. Gradients of zero, as behind a ReLU, cost nothing.
//
// The nets' arrays are concatenated. Two stages: a workgroup of net z (channel o, slice, block of taps)
// owns `threads` units of 4 taps each and sums them over its slice of the gradients, over all the net's images,
// 256 at a time from workgroup memory, into partial[slice, o, tap]. Then one thread per element adds the slices, in order
// (`total`). A unit's 4 taps are those of 4 neighbouring channels, or,
// where there are fewer channels, of 4 kernel rows: what it reads beyond c_in or k_h is not written.

override n: u32 = 1u;
override c_in: u32 = 1u;
override h: u32 = 1u;
override w: u32 = 1u;
override c_out: u32 = 1u;
override k_h: u32 = 1u;
override k_w: u32 = 1u;
override top: u32 = 0u;
override left: u32 = 0u;
override w_out: u32 = 1u;
override windows: u32 = 1u;    // gradients of a channel in an image
override saturating: u32 = 0u; // 1: tanh, 0: LeakyReLU with `slope`
override slope: f32 = 0.0;
override by_channel: u32 = 0u; // 1: a unit's taps are 4 channels', 0: 4 kernel rows'
override slice: u32 = 1u;      // gradients of a slice
override slices: u32 = 1u;
override blocks: u32 = 1u;     // of a channel's taps
override threads: u32 = 64u;

const CHUNK = 256u;

var<workgroup> grads: array<f32, CHUNK>;
var<workgroup> spots: array<vec3u, CHUNK>; // image, and the row and column that tap (0, 0) sees, wrapped where outside

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read> grad: array<f32>;
@group(0) @binding(2) var<storage, read> pooled: array<f32>;
@group(0) @binding(3) var<storage, read> argmax: array<f32>;
@group(0) @binding(4) var<storage, read_write> partial_winners: array<f32>;

fn grad_at(window: u32) -> f32 {
    let y = pooled[window];
    let steep = select(slope, 1.0, y > 0.0);
    return select(steep, 1.0 - y * y, saturating == 1u) * grad[window];
}

fn spot(image: u32, place: u32) -> vec3u {
    return vec3u(image, place / w_out - top, place % w_out - left);
}

// Gradients from `start` on of the group's channel: how many of a chunk there are, at most up to `end`.
fn stage_winners(t: u32, group: vec3u, start: u32, end: u32) -> u32 {
    let count = min(CHUNK, end - start);
    for (var e = t; e < count; e += threads) {
        let image = group.z * n + (start + e) / windows;
        let window = (image * c_out + group.x) * windows + (start + e) % windows;
        grads[e] = grad_at(window);
        spots[e] = spot(image, u32(argmax[window]));
    }
    return count;
}

// A thread's first tap: channel, kernel row, kernel column.
fn first_tap(unit: u32) -> vec3u {
    if (by_channel == 1u) {
        return vec3u(unit / (k_h * k_w) * 4u, unit / k_w % k_h, unit % k_w);
    }
    let strips = (k_h + 3u) / 4u;
    return vec3u(unit / (strips * k_w), unit / k_w % strips * 4u, unit % k_w);
}

// The products of `count` staged gradients with what a unit's taps see.
fn products(count: u32, tap: vec3u, old: vec4f) -> vec4f {
    let down = 1u - by_channel;
    let next = select(w, h * w, by_channel == 1u);
    var sums = old;
    for (var e = 0u; e < count; e++) {
        let g = grads[e];
        if (g != 0.0) {
            let y = spots[e].y + tap.y;
            let x = spots[e].z + tap.z;
            let at = ((spots[e].x * c_in + tap.x) * h + y) * w + x;
            if (x < w) {
                var seen = vec4f();
                if (y < h) {
                    seen.x = input[at];
                }
                if (y + down < h) {
                    seen.y = input[at + next];
                }
                if (y + 2u * down < h) {
                    seen.z = input[at + 2u * next];
                }
                if (y + 3u * down < h) {
                    seen.w = input[at + 3u * next];
                }
                sums += g * seen;
            }
        }
    }
    return sums;
}

// Where tap q of a unit goes, or the largest number if there is no such tap.
fn element(group: vec3u, tap: vec3u, q: u32) -> u32 {
    let c = tap.x + q * by_channel;
    let r = tap.y + q * (1u - by_channel);
    let row = (group.z * slices + group.y / blocks) * c_out + group.x;
    let index = ((row * c_in + c) * k_h + r) * k_w + tap.z;
    return select(0xffffffffu, index, c < c_in && r < k_h);
}

// winners: input, grad_pooled, pooled, argmax -> partial
@compute @workgroup_size(threads)
fn winners(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let tap = first_tap(group.y % blocks * threads + t);
    let first = group.y / blocks * slice;
    let end = min(first + slice, n * windows);
    var sums = vec4f();
    for (var start = first; start < end; start += CHUNK) {
        workgroupBarrier(); // the chunk before is done with
        let count = stage_winners(t, group, start, end);
        workgroupBarrier();
        sums = products(count, tap, sums);
    }
    for (var q = 0u; q < 4u; q++) {
        let index = element(group, tap, q);
        if (index != 0xffffffffu) {
            partial_winners[index] = sums[q];
        }
    }
}

// total: partial -> grad_weight
@group(0) @binding(0) var<storage, read> partial_: array<f32>;
@group(0) @binding(1) var<storage, read_write> grad_weight: array<f32>;

@compute @workgroup_size(64)
fn total(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = id.x + id.y * groups.x * 64u;
    let taps = c_out * c_in * k_h * k_w;
    if (index < taps) {
        var sum = 0.0;
        for (var k = 0u; k < slices; k++) {
            sum += partial_[(id.z * slices + k) * taps + index];
        }
        grad_weight[id.z * taps + index] = sum;
    }
}

// A workgroup a channel of net z: thread t sums gradients t, t + 256, ..., then half of the threads add the other half's
// sums.
var<workgroup> sums_: array<f32, 256>;

fn add_up(t: u32, sum: f32) -> f32 {
    sums_[t] = sum;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (t < half) {
            sums_[t] += sums_[t + half];
        }
    }
    return sums_[0];
}

// bias_winners: grad_bias (written), grad_pooled, pooled
@group(0) @binding(0) var<storage, read_write> grad_bias: array<f32>;

@compute @workgroup_size(256)
fn bias_winners(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    var sum = 0.0;
    for (var e = t; e < n * windows; e += 256u) {
        sum += grad_at(((group.z * n + e / windows) * c_out + group.x) * windows + e % windows);
    }
    let all = add_up(t, sum);
    if (t == 0u) {
        grad_bias[group.z * c_out + group.x] = all;
    }
}
