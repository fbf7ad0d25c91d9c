// A constant array: output = value.
// The array is flat; the nets' arrays are concatenated. One thread per element of net z.

override len: u32 = 1u;
override value: f32 = 0.0;

@group(0) @binding(0) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < len) {
        output[id.z * len + i] = value;
    }
}
