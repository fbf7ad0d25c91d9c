//! Every shader, without a GPU: it parses, validates, translates for Vulkan, Metal and DirectX 12, and stays within
//! what WebGPU guarantees everywhere.

#![allow(clippy::expect_used)]

use std::fs;
use std::path::PathBuf;

use naga::back::{hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage};
use walkdir::WalkDir;

const MAX_STORAGE_BINDINGS: usize = 8;
const MAX_WORKGROUP_BYTES: u32 = 16_384;
const MAX_INVOCATIONS: u32 = 256;

fn shaders() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let files = WalkDir::new(&folder).into_iter().map(|entry| entry.expect("an entry").into_path());
    let mut shaders: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"))
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("a shader")))
        .collect();
    shaders.sort();
    shaders
}

fn validate(module: &Module) -> Result<ModuleInfo, String> {
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::default());
    validator.validate(module).map_err(|error| format!("does not validate: {:?}", error.into_inner()))
}

/// Checks one file and gives its number of entry points.
fn check(source: &str) -> Result<usize, String> {
    if !source.starts_with("//") {
        return Err("starts without a comment that says what it computes".to_string());
    }
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let info = validate(&module)?;
    if module.entry_points.is_empty() {
        return Err("has no entry point".to_string());
    }
    for point in &module.entry_points {
        check_entry(&module, &info, &point.name).map_err(|error| format!("{}: {error}", point.name))?;
    }
    Ok(module.entry_points.len())
}

fn check_entry(module: &Module, info: &ModuleInfo, name: &str) -> Result<(), String> {
    let (module, info) = process_overrides(module, info, Some((ShaderStage::Compute, name)), &Default::default())
        .map_err(|error| format!("override constants need defaults with which it compiles: {error}"))?;
    check_limits(&module, &info, name)?;

    let point = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: name.to_string() };
    spv::write_vec(&module, &info, &spv::Options::default(), Some(&point)).map_err(|e| format!("Vulkan: {e}"))?;

    let options = msl::Options { lang_version: (2, 4), ..Default::default() };
    let (_, translated) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
        .map_err(|e| format!("Metal: {e}"))?;
    for name in translated.entry_point_names {
        name.map_err(|e| format!("Metal: {e}"))?;
    }

    let (options, mut text) = (hlsl::Options::default(), String::new());
    let translated = hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
        .write(&module, &info, None)
        .map_err(|e| format!("DirectX: {e}"))?;
    for name in translated.entry_point_names {
        name.map_err(|e| format!("DirectX: {e}"))?;
    }
    Ok(())
}

fn check_limits(module: &Module, info: &ModuleInfo, name: &str) -> Result<(), String> {
    let number = module.entry_points.iter().position(|point| point.name == name).ok_or("is gone")?;
    let invocations: u32 = module.entry_points[number].workgroup_size.iter().product();
    if invocations > MAX_INVOCATIONS {
        return Err(format!("{invocations} invocations in a workgroup; WebGPU guarantees {MAX_INVOCATIONS}"));
    }
    let mut layouts = naga::proc::Layouter::default();
    layouts.update(module.to_ctx()).map_err(|error| error.to_string())?;
    let (mut storage, mut workgroup) = (0, 0);
    for (handle, variable) in module.global_variables.iter() {
        if info.get_entry_point(number)[handle].is_empty() {
            continue;
        }
        match variable.space {
            AddressSpace::Storage { .. } => storage += 1,
            AddressSpace::WorkGroup => workgroup += layouts[variable.ty].size.next_multiple_of(16),
            _ => {}
        }
    }
    if storage > MAX_STORAGE_BINDINGS {
        return Err(format!("{storage} storage buffers; WebGPU guarantees {MAX_STORAGE_BINDINGS}"));
    }
    if workgroup > MAX_WORKGROUP_BYTES {
        return Err(format!("{workgroup} bytes of workgroup memory; WebGPU guarantees {MAX_WORKGROUP_BYTES}"));
    }
    Ok(())
}

#[test]
fn every_shader_compiles_for_every_platform_within_the_limits() {
    let shaders = shaders();
    assert!(!shaders.is_empty(), "no shader was found");
    let failures: Vec<_> =
        shaders.iter().filter_map(|(path, source)| Some(format!("{path}: {}", check(source).err()?))).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_check_finds_what_it_is_for() {
    let kernel = |globals: &str, size: &str, body: &str| {
        format!("// A test.\n{globals}\n@compute @workgroup_size({size})\nfn main() {{ {body} }}\n")
    };
    let storage = |count: usize| {
        let globals: String =
            (0..count).map(|i| format!("@group(0) @binding({i}) var<storage, read_write> b{i}: array<f32>;")).collect();
        let body: String = (0..count).map(|i| format!("b{i}[0] = 1.0;")).collect();
        kernel(&globals, "1", &body)
    };
    let tile = |len: &str| kernel(&format!("var<workgroup> tile: array<f32, {len}>;"), "64", "tile[0] = 1.0;");
    assert_eq!(check(&storage(8)), Ok(1));
    assert_eq!(check(&tile("4096")), Ok(1));
    assert_eq!(check(&kernel("override N: u32 = 256;", "N", "")), Ok(1));

    let unused = format!("var<workgroup> other: array<f32, 4097>;\n{}", kernel("", "1", ""));
    assert_eq!(check(&format!("// A test.\n{unused}")), Ok(1), "memory that an entry point does not touch is free");

    for (source, complaint) in [
        (storage(8).replacen("// A test.", "", 1), "comment"),
        ("// Nothing.".to_string(), "no entry point"),
        (kernel("", "1", "let x: f32 = 1u;"), "f32"),
        (kernel("fn f() -> f32 { }", "1", "let x = f();"), "validate"),
        (kernel("override N: u32;", "N", ""), "defaults"),
        (storage(9), "9 storage buffers"),
        (tile("4097"), "bytes of workgroup memory"),
        (kernel("override N: u32 = 257;", "N", ""), "257 invocations"),
    ] {
        let message = check(&source).expect_err(complaint);
        assert!(message.contains(complaint), "expected \"{complaint}\", got: {message}");
    }
}
