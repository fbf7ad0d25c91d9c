// Running sum of a scalar over the steps: total += x.
// A workgroup of one thread for net z.

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> total: array<f32>;

@compute @workgroup_size(1)
fn forward(@builtin(workgroup_id) group: vec3u) {
    total[group.z] += x[group.z];
}
