// The first stage of an L1 penalty of many elements: parts[k] = sum of |x| over part k.   (l1_penalty.wgsl sums the parts.)
// The arrays of each net follow those of the net before. Workgroup k of net z owns part k. Its thread t sums the elements
// 256 k + t, 256 (k + parts) + t, and so on. Then half of the threads add the sums of the other half, until one is left.

override len: u32 = 1u;
override parts: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

var<workgroup> partial_sum: array<f32, 256>;

@compute @workgroup_size(256)
fn part(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    var sum = 0.0;
    for (var i = group.x * 256u + t; i < len; i += parts * 256u) {
        sum += abs(x[group.z * len + i]);
    }
    partial_sum[t] = sum;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (t < half) {
            partial_sum[t] += partial_sum[t + half];
        }
    }
    if (t == 0u) {
        output[group.z * parts + group.x] = partial_sum[0];
    }
}
