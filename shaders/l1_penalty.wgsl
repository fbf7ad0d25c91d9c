// L1 penalty: output = lambda * sum |x|;   dx = lambda * sign(x) * dy.
// The nets' arrays are concatenated.
// forward: one workgroup for net z; thread t sums the elements t, t + 256, ..., then thread 0 the 256
// partial sums, in order.
// grad_input: one thread owns one element of net z.

override len: u32 = 1u;
override lambda: f32 = 1.0;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

var<workgroup> partial_sum: array<f32, 256>;

@compute @workgroup_size(256)
fn forward(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    var sum = 0.0;
    for (var i = t; i < len; i += 256u) {
        sum += abs(x[group.z * len + i]);
    }
    partial_sum[t] = sum;
    workgroupBarrier();
    if (t == 0u) {
        var total = 0.0;
        for (var k = 0u; k < 256u; k++) {
            total += partial_sum[k];
        }
        output[group.z] = lambda * total;
    }
}

// grad_input: x, grad_output -> grad_input
@group(0) @binding(1) var<storage, read> grad_output: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad_input_: array<f32>;

@compute @workgroup_size(64)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < len) {
        let at = id.z * len + i;
        grad_input_[at] = lambda * sign(x[at]) * grad_output[id.z];
    }
}
