// Dropout: output = keep ? input * scale : 0, with keep = hash(seed, step, node, element) >= threshold.
// The hash is that of src/rng.rs: u32 arithmetic wraps in WGSL as it does there, so masks are bit-identical.
// Arrays are flat; the nets' arrays are concatenated. One thread per element of net z.

override len: u32 = 1u;
override node: u32 = 0u;
override threshold: u32 = 0u;
override scale: f32 = 1.0;

struct Step {
    @align(16) step: u32,
    seed: u32,
    learning_rate: f32,
}

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;
@group(1) @binding(0) var<uniform> steps: array<Step, 16>; // one for each net

fn pcg(value: u32) -> u32 {
    let state = value * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = id.x + id.y * groups.x * 64u;
    if (i < len) {
        let at = id.z * len + i;
        let step = steps[id.z];
        let hash = pcg(i + pcg(node + pcg(step.step + pcg(step.seed))));
        output[at] = select(0.0, input[at] * scale, hash >= threshold);
    }
}
