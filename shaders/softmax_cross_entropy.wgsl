// Softmax and cross-entropy, averaged over the B rows whose label is a class (0 to k - 1); other rows are masked:
//   p[n, k] = exp(z[n, k] - max z[n]) / sum;   loss = -(1/B) sum_n log p[n, label[n]]
//   dz[n, k] = (p[n, k] - [k = label[n]]) / B * dloss
// logits and probabilities [n, k], labels [n], loss and correct [1]. The nets' arrays are concatenated.
// forward: one workgroup for net z; thread t owns the rows t, t + 64, ...; thread 0 adds the 64 partial sums, in order.
// grad_logits: one thread owns one element of net z.

override n: u32 = 1u;
override k: u32 = 1u;

// forward: logits, labels -> loss, probabilities, correct
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<f32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> probabilities: array<f32>;
@group(0) @binding(4) var<storage, read_write> correct: array<f32>;

fn is_class(label: f32) -> bool {
    return label >= 0.0 && label < f32(k);
}

var<workgroup> partial_sum: array<vec3f, 64>; // loss, rows, correct

@compute @workgroup_size(64)
fn forward(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) group: vec3u) {
    var sum = vec3f(0.0);
    for (var row = group.z * n + t; row < (group.z + 1u) * n; row += 64u) {
        let z = row * k;
        var best = 0u;
        for (var i = 1u; i < k; i++) {
            if (logits[z + i] > logits[z + best]) {
                best = i;
            }
        }
        var total = 0.0;
        for (var i = 0u; i < k; i++) {
            total += exp(logits[z + i] - logits[z + best]);
        }
        for (var i = 0u; i < k; i++) {
            probabilities[z + i] = exp(logits[z + i] - logits[z + best]) / total;
        }
        if (is_class(labels[row])) {
            let label = u32(labels[row]);
            let row_loss = log(total) + logits[z + best] - logits[z + label];
            sum += vec3f(row_loss, 1.0, select(0.0, 1.0, best == label));
        }
    }
    partial_sum[t] = sum;
    workgroupBarrier();
    if (t == 0u) {
        var all = vec3f(0.0);
        for (var i = 0u; i < 64u; i++) {
            all += partial_sum[i];
        }
        loss[group.z] = all.x / max(all.y, 1.0);
        correct[group.z] = all.z;
    }
}

// grad_logits: probabilities, labels, grad_output -> grad_logits
@group(0) @binding(0) var<storage, read> p: array<f32>;
@group(0) @binding(2) var<storage, read> grad_output: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad_logits_: array<f32>;

@compute @workgroup_size(64)
fn grad_logits(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < n * k) {
        var rows = 0.0;
        for (var row = 0u; row < n; row++) {
            rows += select(0.0, 1.0, is_class(labels[id.z * n + row]));
        }
        let at = id.z * n * k + i;
        let label = labels[at / k];
        let one = select(0.0, 1.0, f32(i % k) == floor(label));
        let dz = (p[at] - one) / max(rows, 1.0) * grad_output[id.z];
        grad_logits_[at] = select(0.0, dz, is_class(label));
    }
}
