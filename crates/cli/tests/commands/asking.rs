//! Commands that only ask.

use outlast_shm::{Draft, Spec, USER_OFFSET};
use serde_json::json;

use crate::sandbox::Sandbox;

fn filled() -> Sandbox {
    let sandbox = Sandbox::with_wksp("prices");
    for line in ["--size 100 --tag 7", "--size 64K --tag 8", "--size 5000 --tag 7"] {
        sandbox.ok(&format!("wksp alloc prices {line}"));
    }
    sandbox
}

#[test]
fn answers_in_text() {
    let sandbox = filled();
    std::fs::write(sandbox.path("domain/odd name"), "no region").unwrap();
    std::fs::write(sandbox.path("domain/torn"), "no region").unwrap();
    std::os::unix::fs::symlink("torn", sandbox.path("domain/linked")).unwrap();
    sandbox.ok("wksp checkpoint prices saved.ckpt --style raw");
    let mut shown = String::new();
    for line in [
        "wksp list",
        "wksp info prices",
        "wksp tag prices:4195",
        "wksp partitions prices",
        "wksp usage prices",
        "wksp usage prices --tag 7 --tag 9",
        "wksp verify prices",
        "region list",
        "region info prices",
        "checkpt inspect saved.ckpt",
        "checkpt verify saved.ckpt",
    ] {
        shown += &format!("$ outlast {line}\n{}", sandbox.redacted(&sandbox.ok(line)));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn answers_in_json() {
    let sandbox = filled();
    std::fs::write(sandbox.path("domain/odd name"), "no region").unwrap();
    sandbox.ok("wksp checkpoint prices saved.ckpt --style lz4");
    insta::assert_json_snapshot!("wksp_list", sandbox.json("wksp list"), { "[].created_unix_ns" => "[time]" });
    let redact = "[redacted]";
    insta::assert_json_snapshot!("wksp_info", sandbox.json("wksp info prices"), {
        ".id" => redact, ".created_unix_ns" => redact, ".creator_uid" => redact
    });
    insta::assert_json_snapshot!("wksp_partitions", sandbox.json("wksp partitions prices"));
    insta::assert_json_snapshot!("wksp_usage", sandbox.json("wksp usage prices --tag 7"));
    insta::assert_json_snapshot!("wksp_verify", sandbox.json("wksp verify prices"));
    insta::assert_json_snapshot!("region_list", sandbox.json("region list"), {
        "[].id" => redact, "[].created_unix_ns" => redact, "[].creator_uid" => redact
    });
    let inspected = sandbox.json("checkpt inspect saved.ckpt --partitions --chunks");
    insta::assert_json_snapshot!("checkpt_inspect", inspected, {
        ".id" => redact, ".root" => redact, ".created_unix_ns" => redact, ".chunks[].digest" => redact,
        ".chunks[].stored_crc" => redact, ".chunks[].stored_bytes" => redact, ".file_bytes" => redact,
        ".stored_bytes" => redact
    });
    let verified = sandbox.json("checkpt verify saved.ckpt");
    insta::assert_json_snapshot!("checkpt_verify", verified, { ".file_bytes" => redact });
}

#[test]
fn partitions_are_those_of_the_library() {
    let sandbox = filled();
    let expected: Vec<_> = sandbox
        .attach("prices")
        .partitions()
        .unwrap()
        .into_iter()
        .map(|found| json!({ "gaddr": found.gaddr.get(), "size": found.size_bytes, "tag": found.tag }))
        .collect();
    assert_eq!(expected.len(), 3);
    assert_eq!(sandbox.json("wksp partitions prices"), json!(expected));
    let usage = sandbox.json("wksp usage prices --tag 7");
    assert_eq!((usage["matched_count"].as_u64(), usage["matched_bytes"].as_u64()), (Some(2), Some(5100)));
}

#[test]
fn only_workspaces_are_listed_as_such() {
    let sandbox = filled();
    let spec = Spec::new(u64::from_le_bytes(*b"another!"), 1, USER_OFFSET);
    let name = "other".try_into().unwrap();
    drop(Draft::new(&sandbox.domain(), &name, &spec).unwrap().publish().unwrap());
    let names = |line: &str, field: &str| -> Vec<String> {
        let listed = sandbox.json(line);
        listed.as_array().unwrap().iter().map(|entry| entry[field].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("wksp list", "name"), ["prices"]);
    assert_eq!(names("region list", "file_name"), ["other", "prices"]);
    assert_eq!(sandbox.json("region info prices")["kind"], "workspace");
    assert_eq!(sandbox.json("region info other")["kind"], "0x21726568746f6e61");
    for line in ["wksp info other", "wksp partitions other", "wksp delete other"] {
        let complaint = sandbox.fails(1, line);
        assert!(complaint.contains("kind 0x21726568746f6e61, expected 0x"), "{complaint}");
    }
    sandbox.ok("region unlink other");
}

#[test]
fn dir_names_the_domain() {
    let sandbox = filled();
    assert_eq!(sandbox.json("wksp list --dir domain").as_array().unwrap().len(), 1);
    sandbox.ok("wksp new b --size 4096 --dir elsewhere");
    assert_eq!(sandbox.json("--dir elsewhere wksp list")[0]["name"], "b");
    assert_eq!(sandbox.json("wksp list").as_array().unwrap().len(), 1);
}
