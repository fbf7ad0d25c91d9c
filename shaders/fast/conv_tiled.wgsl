// A convolution, its activation and its max-pooling by tiles, and the gradient of its input. All of them are one
// correlation of planes with kernels,
//   map[n, o, i, j] = sum_{c, r, s} kernel[o, c, r, s] plane[n, c, i + r - top, j + s - left]
// forward the plane is the input and the kernel the weight; for the input's gradient the plane is the map's, the kernel
// is the weight rotated by 180° with its channels swapped, and `top`, `left` are k_h - 1 - top, k_w - 1 - left.
//
// The nets' arrays are concatenated. A workgroup of net z owns a tile of tile_h x tile_w places of
// one image's map, whole windows of the pool, for 16 channels. Its thread (strip, group) computes 4 vertically adjacent
// outputs for the 4 channels of its group: 16 accumulators in registers. In stages the workgroup copies `channels` planes' patches and
// `kernel_rows` rows of their kernels to workgroup memory; then each step down a kernel column costs a thread one number
// of the patch and four of the kernel for 16 multiply-adds. Neighbouring threads read neighbouring numbers, and the
// kernel's are the same for all threads of a group. Within a stage sums run over c, then s, then r; always in
// one order.

override n: u32 = 1u;          // images of a net
override c_in: u32 = 1u;       // planes
override h: u32 = 1u;
override w: u32 = 1u;
override c_out: u32 = 1u;      // channels of the map
override k_h: u32 = 1u;
override k_w: u32 = 1u;
override top: u32 = 0u;
override left: u32 = 0u;
override turned: u32 = 0u;     // 1: the kernel is the weight rotated by 180°
override h_out: u32 = 1u;      // the map
override w_out: u32 = 1u;
override pool_h: u32 = 1u;
override pool_w: u32 = 1u;
override saturating: u32 = 0u; // 1: tanh, 0: LeakyReLU with `slope`
override slope: f32 = 0.0;
override tile_h: u32 = 1u;
override tile_w: u32 = 1u;
override channels: u32 = 1u;    // planes of a stage
override kernel_rows: u32 = 1u; // rows of their kernels; fewer than k_h only if channels is 1
override threads: u32 = 4u;     // ceil(tile_h / 4) * tile_w strips for each of 4 groups

const GROUPS = 4u;
const KERNEL = 512u; // vec4f: channels * kernel_rows * k_w * GROUPS at most
const PATCH = 2048u; // floats: channels * (4 ceil(tile_h / 4) + kernel_rows - 1) * (tile_w + k_w - 1) at most

var<workgroup> kernel: array<vec4f, KERNEL>; // [channels, kernel_rows, k_w, GROUPS]
var<workgroup> patch_: array<f32, PATCH>;    // [channels, patch_h, patch_w]; in the end the map of one channel a group

// The sums of a thread: one vector of 4 channels for each of its 4 places.
struct Sums {
    a: vec4f,
    b: vec4f,
    c: vec4f,
    d: vec4f,
}

// A tile: its net, its image among the images of all nets, its first output, and its first channel.
struct Tile {
    net: u32,
    image: u32,
    i: u32,
    j: u32,
    o: u32,
}

fn strips() -> u32 {
    return (tile_h + 3u) / 4u;
}

fn patch_h() -> u32 {
    return 4u * strips() + kernel_rows - 1u;
}

fn patch_w() -> u32 {
    return tile_w + k_w - 1u;
}

// Tiles count from left to right and down; only the part of the map that the pool sees has any.
fn tile_of(group: vec3u) -> Tile {
    let across = (w_out / pool_w * pool_w + tile_w - 1u) / tile_w;
    let blocks = (c_out + 4u * GROUPS - 1u) / (4u * GROUPS);
    let image = group.z * n + group.y / blocks;
    let o = group.y % blocks * 4u * GROUPS;
    return Tile(group.z, image, group.x / across * tile_h, group.x % across * tile_w, o);
}

// One stage's products, from `rows` kernel rows of `planes` planes.
fn multiply(t: u32, planes: u32, rows: u32, old: Sums) -> Sums {
    var sums = old;
    let group = t / (threads / GROUPS);
    let strip = t % (threads / GROUPS);
    let corner = strip / tile_w * 4u * patch_w() + strip % tile_w;
    for (var c = 0u; c < planes; c++) {
        for (var s = 0u; s < k_w; s++) {
            var at = c * patch_h() * patch_w() + corner + s;
            var tap = (c * kernel_rows * k_w + s) * GROUPS + group;
            var x0 = patch_[at];
            var x1 = patch_[at + patch_w()];
            var x2 = patch_[at + 2u * patch_w()];
            at += 3u * patch_w();
            for (var r = 0u; r < rows; r++) {
                let x3 = patch_[at];
                let k = kernel[tap];
                sums.a += k * x0;
                sums.b += k * x1;
                sums.c += k * x2;
                sums.d += k * x3;
                x0 = x1;
                x1 = x2;
                x2 = x3;
                at += patch_w();
                tap += k_w * GROUPS;
            }
        }
    }
    return sums;
}

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> map_: array<f32>;

// Where the kernel from plane c to a channel has its tap (r, s): in weight [c_out, c_in, k_h, k_w], or, rotated by
// 180°, in weight [c_in, c_out, k_h, k_w].
fn tap_at(net: u32, channel: u32, c: u32, r: u32, s: u32) -> u32 {
    if (turned == 1u) {
        return (((net * c_in + c) * c_out + channel) * k_h + k_h - 1u - r) * k_w + k_w - 1u - s;
    }
    return (((net * c_out + channel) * c_in + c) * k_h + r) * k_w + s;
}

// The kernels of `planes` planes from c0 on, rows from r0 on.
fn stage_kernel(t: u32, tile: Tile, c0: u32, r0: u32, planes: u32, rows: u32) {
    for (var e = t; e < planes * kernel_rows * k_w * GROUPS; e += threads) {
        let tap = e / GROUPS;
        let c = c0 + tap / (kernel_rows * k_w);
        let r = tap / k_w % kernel_rows;
        var k = vec4f();
        if (r < rows) {
            for (var q = 0u; q < 4u; q++) {
                let channel = tile.o + e % GROUPS * 4u + q;
                if (channel < c_out) {
                    k[q] = weight[tap_at(tile.net, channel, c, r0 + r, tap % k_w)];
                }
            }
        }
        kernel[e] = k;
    }
}

// Where element e of the patches stands: x, y on the plane (wrapped where above or to the left), z the plane.
fn place_of(e: u32, tile: Tile, c0: u32, r0: u32) -> vec3u {
    let y = tile.i + r0 + e / patch_w() % patch_h() - top;
    return vec3u(tile.j + e % patch_w() - left, y, c0 + e / (patch_h() * patch_w()));
}

fn stage_input(t: u32, tile: Tile, c0: u32, r0: u32, planes: u32) {
    for (var e = t; e < planes * patch_h() * patch_w(); e += threads) {
        let at = place_of(e, tile, c0, r0);
        var x = 0.0;
        if (at.x < w && at.y < h) {
            x = input[((tile.image * c_in + at.z) * h + at.y) * w + at.x];
        }
        patch_[e] = x;
    }
}

fn correlate(t: u32, tile: Tile) -> Sums {
    var sums = Sums();
    for (var c0 = 0u; c0 < c_in; c0 += channels) {
        let planes = min(channels, c_in - c0);
        for (var r0 = 0u; r0 < k_h; r0 += kernel_rows) {
            let rows = min(kernel_rows, k_h - r0);
            workgroupBarrier(); // the stage before is done with the memory
            stage_kernel(t, tile, c0, r0, planes, rows);
            stage_input(t, tile, c0, r0, planes);
            workgroupBarrier();
            sums = multiply(t, planes, rows, sums);
        }
    }
    return sums;
}

// The place of a thread's element p in its tile.
fn place_in_tile(t: u32, p: u32) -> vec2u {
    let strip = t % (threads / GROUPS);
    return vec2u(strip / tile_w * 4u + p, strip % tile_w);
}

fn place_sums(sums: Sums, p: u32) -> vec4f {
    return select(select(sums.a, sums.b, p == 1u), select(sums.c, sums.d, p == 3u), p > 1u);
}

// Where channel q of a thread's group at place p goes, or a number beyond the map.
fn element(t: u32, tile: Tile, p: u32, q: u32) -> u32 {
    let at = place_in_tile(t, p);
    let o = tile.o + t / (threads / GROUPS) * 4u + q;
    let inside = o < c_out && at.x < tile_h && tile.i + at.x < h_out && tile.j + at.y < w_out;
    return select(0xffffffffu, ((tile.image * c_out + o) * h_out + tile.i + at.x) * w_out + tile.j + at.y, inside);
}

fn store(t: u32, tile: Tile, sums: Sums) {
    for (var e = 0u; e < 16u; e++) {
        let index = element(t, tile, e / 4u, e % 4u);
        if (index != 0xffffffffu) {
            map_[index] = place_sums(sums, e / 4u)[e % 4u];
        }
    }
}

// block: input, weight -> pooled, argmax;  block_bias: also reads bias
@group(0) @binding(2) var<storage, read_write> pooled: array<f32>;
@group(0) @binding(3) var<storage, read_write> argmax: array<f32>;
@group(0) @binding(4) var<storage, read> block_bias_: array<f32>;

fn activate(x: f32) -> f32 {
    if (saturating == 1u) {
        // Drivers compute tanh from exp, which overflows for large |x|; beyond 10 the result is 1 in f32.
        return tanh(clamp(x, -10.0, 10.0));
    }
    return select(slope * x, x, x > 0.0);
}

// Lays out channel q of every group as a map [GROUPS, tile_h, tile_w] in workgroup memory.
fn lay_out(t: u32, q: u32, sums: Sums) {
    workgroupBarrier(); // whatever was there is done with
    for (var p = 0u; p < 4u; p++) {
        let at = place_in_tile(t, p);
        if (at.x < tile_h) {
            patch_[(t / (threads / GROUPS) * tile_h + at.x) * tile_w + at.y] = place_sums(sums, p)[q];
        }
    }
    workgroupBarrier();
}

struct Winner {
    value: f32,
    place: u32,   // in the map's plane
    channel: u32, // among those of all nets
    index: u32,   // in pooled and argmax; the largest number if there is no such window
}

// The first maximum of window e, which counts through the groups' windows.
fn find(e: u32, q: u32, tile: Tile) -> Winner {
    let across = tile_w / pool_w;
    let down = tile_h / pool_h;
    let group = e / (down * across);
    let i = e / across % down * pool_h;
    let j = e % across * pool_w;
    let row = (group * tile_h + i) * tile_w + j;
    var best = patch_[row];
    var place = 0u;
    for (var p = 1u; p < pool_h * pool_w; p++) {
        let value = patch_[row + p / pool_w * tile_w + p % pool_w];
        if (value > best) {
            best = value;
            place = p;
        }
    }
    let o = tile.o + group * 4u + q;
    let y = (tile.i + i) / pool_h;
    let x = (tile.j + j) / pool_w;
    let inside = o < c_out && y < h_out / pool_h && x < w_out / pool_w;
    let index = ((tile.image * c_out + o) * (h_out / pool_h) + y) * (w_out / pool_w) + x;
    let at = (tile.i + i + place / pool_w) * w_out + tile.j + j + place % pool_w;
    return Winner(best, at, tile.net * c_out + o, select(0xffffffffu, index, inside));
}

fn windows() -> u32 {
    return GROUPS * (tile_h / pool_h) * (tile_w / pool_w);
}

@compute @workgroup_size(threads)
fn block(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let tile = tile_of(group);
    let sums = correlate(t, tile);
    for (var q = 0u; q < 4u; q++) {
        lay_out(t, q, sums);
        for (var e = t; e < windows(); e += threads) {
            let winner = find(e, q, tile);
            if (winner.index != 0xffffffffu) {
                pooled[winner.index] = activate(winner.value);
                argmax[winner.index] = f32(winner.place);
            }
        }
    }
}

@compute @workgroup_size(threads)
fn block_bias(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let tile = tile_of(group);
    let sums = correlate(t, tile);
    for (var q = 0u; q < 4u; q++) {
        lay_out(t, q, sums);
        for (var e = t; e < windows(); e += threads) {
            let winner = find(e, q, tile);
            if (winner.index != 0xffffffffu) {
                pooled[winner.index] = activate(winner.value + block_bias_[winner.channel]);
                argmax[winner.index] = f32(winner.place);
            }
        }
    }
}

// block_grad_input: grad_pooled, weight, pooled, argmax -> grad_input (as `map_`); pool and activation are the block's, h
// and w its map's, and this correlation itself has no pool.
@group(0) @binding(0) var<storage, read> grad_pooled: array<f32>;
@group(0) @binding(3) var<storage, read> block_pooled: array<f32>;
@group(0) @binding(4) var<storage, read> block_argmax: array<f32>;

override window_h: u32 = 1u; // the block's pool
override window_w: u32 = 1u;

// The map's gradient: that of its window at the argmax, zero elsewhere.
fn stage_winners(t: u32, tile: Tile, c0: u32, r0: u32, planes: u32) {
    let down = h / window_h;
    let across = w / window_w;
    for (var e = t; e < planes * patch_h() * patch_w(); e += threads) {
        let at = place_of(e, tile, c0, r0);
        var x = 0.0;
        if (at.x / window_w < across && at.y / window_h < down) {
            let window = ((tile.image * c_in + at.z) * down + at.y / window_h) * across + at.x / window_w;
            if (block_argmax[window] == f32(at.y * w + at.x)) {
                let y = block_pooled[window];
                let steep = select(slope, 1.0, y > 0.0);
                x = select(steep, 1.0 - y * y, saturating == 1u) * grad_pooled[window];
            }
        }
        patch_[e] = x;
    }
}

@compute @workgroup_size(threads)
fn block_grad_input(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    let tile = tile_of(group);
    var sums = Sums();
    for (var c0 = 0u; c0 < c_in; c0 += channels) {
        let planes = min(channels, c_in - c0);
        for (var r0 = 0u; r0 < k_h; r0 += kernel_rows) {
            let rows = min(kernel_rows, k_h - r0);
            workgroupBarrier();
            stage_kernel(t, tile, c0, r0, planes, rows);
            stage_winners(t, tile, c0, r0, planes);
            workgroupBarrier();
            sums = multiply(t, planes, rows, sums);
        }
    }
    store(t, tile, sums);
}
