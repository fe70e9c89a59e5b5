//! What the values of a service may be.

use super::*;

#[test]
fn names_are_up_to_thirty_letters_and_digits() {
    let refused = [
        ("bad-name", "contains `-`"),
        ("", "is empty"),
        ("naïve", "contains `ï`"),
        ("abcdefghijklmnopqrstuvwxyz01234", "has 31 characters"),
    ];
    for (name, reason) in refused {
        let is_wrong = format!("must be 1 to 30 letters (a-z, A-Z) or digits, but {reason}");
        for field in ["microservice_name", "microservice_namespace"] {
            assert_eq!(
                service_problems(json!({field: name})),
                one(SlaErrorCode::InvalidValue, field, &is_wrong)
            );
        }
        for field in ["application_name", "application_namespace"] {
            let path = format!("applications[0].{field}");
            assert_eq!(
                problems_of(&application_with(field, json!(name))),
                one(SlaErrorCode::InvalidValue, &path, &format!("`{path}` {is_wrong}"))
            );
        }
    }
    let longest = "A".repeat(MAX_NAME_LENGTH);
    assert!(parsed(&application_with("application_name", json!(longest))).is_ok());
}

#[test]
fn amounts_are_integers_in_range() {
    let refused = [
        (json!(-1), "-1", SlaErrorCode::InvalidValue),
        (json!(0.5), "0.5", SlaErrorCode::InvalidValue),
        (json!(4_294_967_296_u64), "4294967296", SlaErrorCode::InvalidValue),
        (json!(1e30), "1e+30", SlaErrorCode::InvalidValue),
        (json!("100"), "the string \"100\"", SlaErrorCode::WrongType),
        (json!(""), "the string \"\"", SlaErrorCode::WrongType),
        (json!(true), "true", SlaErrorCode::WrongType),
        (json!([1]), "a list", SlaErrorCode::WrongType),
        (json!({}), "an object", SlaErrorCode::WrongType),
    ];
    let fields = [
        ("memory", u32::MAX),
        ("storage", u32::MAX),
        ("vgpus", u32::MAX),
        ("vgpu", u32::MAX),
        ("vcpus", 4_294_967),
        ("vcpu", 4_294_967),
    ];
    for (field, max) in fields {
        for (value, found, code) in &refused {
            let is_wrong = format!("must be an integer from 0 to {max}, but is {found}");
            assert_eq!(service_problems(json!({field: value})), one(*code, field, &is_wrong));
        }
        assert_eq!(spec_with(json!({field: null})), spec_with(json!({})));
        spec_with(json!({field: max}));
    }
    assert_eq!(service_problems(json!({"vcpus": 4_294_968})).len(), 1);
}

#[test]
fn other_wrong_types_are_refused_by_name() {
    let list = "must be a list of strings, but is the string \"a\"";
    let flag = "must be true or false, but is 1";
    let text = "must be a string, but is 80";
    let refused = [
        ("cmd", json!("a"), list),
        ("environment", json!("a"), list),
        ("env", json!("a"), list),
        ("one_shot", json!(1), flag),
        ("privileged", json!(1), flag),
        ("port", json!(80), text),
        ("code", json!(80), text),
        ("virtualization", json!(80), text),
        ("microservice_name", json!(80), text),
        ("microserviceID", json!(80), text),
        ("description", json!(80), text),
        ("constraints", json!({}), "must be a list of objects, but is an object"),
        ("added_files", json!("a"), "must be a list of objects, but is the string \"a\""),
    ];
    for (field, value, is_wrong) in refused {
        assert_eq!(service_problems(json!({field: value})), one(SlaErrorCode::WrongType, field, is_wrong));
    }
}

#[test]
fn wrong_entries_of_lists_are_refused_by_their_place() {
    let refused = [
        ("cmd", json!(["a", 1]), "cmd[1]", "must be a string, but is 1"),
        ("environment", json!([null]), "environment[0]", "must be a string, but is null"),
        ("constraints", json!([1]), "constraints[0]", "must be an object, but is 1"),
        ("added_files", json!(["/a"]), "added_files[0]", "must be an object, but is the string \"/a\""),
    ];
    for (field, value, place, is_wrong) in refused {
        assert_eq!(service_problems(json!({field: value})), one(SlaErrorCode::WrongType, place, is_wrong));
    }
    let mut document = sla_with(json!("web"));
    let path = "applications[0].microservices[0]";
    let is_wrong = "`applications[0].microservices[0]` must be an object, but is the string \"web\"";
    assert_eq!(problems_of(&document), one(SlaErrorCode::WrongType, path, is_wrong));
    document["applications"] = json!([[]]);
    let is_wrong = "`applications[0]` must be an object, but is a list";
    assert_eq!(problems_of(&document), one(SlaErrorCode::WrongType, "applications[0]", is_wrong));
}

#[test]
fn the_image_is_a_reference() {
    let refused = [
        ("", "is empty"),
        ("https://example.org/a.tar.gz", "is the URL \"https://example.org/a.tar.gz\""),
        ("nginx latest", "is \"nginx latest\", with characters no reference has"),
    ];
    for (image, reason) in refused {
        let is_wrong =
            format!("must be an OCI image reference such as `docker.io/library/nginx:latest`, but {reason}");
        assert_eq!(
            service_problems(json!({"code": image})),
            one(SlaErrorCode::InvalidValue, "code", &is_wrong)
        );
    }
    let longest = "a".repeat(MAX_IMAGE_LENGTH);
    assert_eq!(spec_with(json!({"code": longest})).image, longest);
    assert_eq!(service_problems(json!({"code": longest + "a"})).len(), 1);
}

#[test]
fn containers_are_the_only_virtualization_and_the_others_are_refused_by_name() {
    for known in ["unikernel", "wasm", "vm", "crosvm", "runsc", "runu", "urunc"] {
        let problems = service_problems(json!({"virtualization": known}));
        let [(code, place, is_wrong)] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!((*code, place.as_str()), (SlaErrorCode::NotSupported, "virtualization"));
        assert!(is_wrong.starts_with(&format!("is `{known}` (")), "{is_wrong}");
        assert!(is_wrong.ends_with("which is not supported yet: use `container` or `docker`"), "{is_wrong}");
    }
    assert_eq!(
        service_problems(json!({"virtualization": "contaner"})),
        one(
            SlaErrorCode::InvalidValue,
            "virtualization",
            "must be `container` or `docker`, but is \"contaner\"; did you mean `container`?"
        )
    );
}

#[test]
fn variables_have_a_name_and_are_set_once() {
    let form = |entry: &str| format!("must be of the form `NAME=value`, but is \"{entry}\"");
    let invalid = |place: &str, is_wrong: String| (SlaErrorCode::InvalidValue, place.to_owned(), is_wrong);
    assert_eq!(
        service_problems(json!({"environment": ["A", "=1", "A=1", "A=1"]})),
        [
            invalid("environment[0]", form("A")),
            invalid("environment[1]", form("=1")),
            (
                SlaErrorCode::Duplicate,
                "environment[3]".to_owned(),
                "sets the variable `A` a second time: keep one".to_owned()
            ),
        ]
    );
    assert_eq!(spec_with(json!({"environment": [""]})), spec_with(json!({})));
}

#[test]
fn ports_are_checked_against_the_grammar_and_each_other() {
    assert_eq!(
        service_problems(json!({"port": "80:81;99999"})),
        one(
            SlaErrorCode::InvalidValue,
            "port",
            "is not a list of port mappings joined by `;`: `99999` is not a port mapping: expected \
             `host[:container][/tcp or /udp]` with ports from 1 to 65535"
        )
    );
    assert_eq!(
        service_problems(json!({"port": "80:1;80:2/udp;80:3"})),
        one(SlaErrorCode::Conflict, "port", "maps the device port 80/tcp twice: keep one mapping of it")
    );
}

#[test]
fn added_files_have_a_path_inside_the_instance() {
    let form = "must be the absolute path of a file, without empty parts, `.` or `..`, but is";
    for path in ["", "/", "a", "etc/a", "/etc/", "/a/../b", "/a/./b", "//a", "/.."] {
        assert_eq!(
            service_problems(json!({"added_files": [{"path": path, "content": ""}]})),
            one(SlaErrorCode::InvalidValue, "added_files[0].path", &format!("{form} \"{path}\""))
        );
    }
    for (field, value) in
        [("path", json!("/a\u{0}")), ("path", json!(1)), ("content", json!(1)), ("mode", json!(420))]
    {
        let mut file = json!({"path": "/a", "content": ""});
        file[field] = value;
        let problems = service_problems(json!({"added_files": [file]}));
        assert_eq!((problems.len(), &*problems[0].1), (1, &*format!("added_files[0].{field}")));
    }
    assert_eq!(
        service_problems(json!({"added_files": [{"path": "/a", "contents": ""}]})),
        [
            (
                SlaErrorCode::UnknownField,
                "added_files[0].contents".to_owned(),
                "is an unknown field; did you mean `content`?".to_owned()
            ),
            (
                SlaErrorCode::MissingField,
                "added_files[0].content".to_owned(),
                "is missing: an added file needs it (What is written there)".to_owned()
            ),
        ]
    );
}

#[test]
fn added_files_do_not_collide() {
    let file = |path: &str| json!({"path": path, "content": ""});
    assert_eq!(
        service_problems(json!({"added_files": [file("/a/b"), file("/a-b"), file("/a"), file("/a-b")]})),
        [
            (
                SlaErrorCode::Duplicate,
                "added_files[3].path".to_owned(),
                "is \"/a-b\", as for another added file: keep one".to_owned()
            ),
            (
                SlaErrorCode::Conflict,
                "added_files[2].path".to_owned(),
                "is \"/a\", a file, but \"/a/b\" lies inside it".to_owned()
            ),
        ]
    );
}

#[test]
fn files_of_like_names_do_not_collide() {
    let file = |path: &str| json!({"path": path, "content": ""});
    let spec = spec_with(json!({"added_files": [file("/a"), file("/a1"), file("/a-/b"), file("/b/a")]}));
    let paths: Vec<&str> = spec.added_files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["/a", "/a1", "/a-/b", "/b/a"]);
}

#[test]
fn one_shot_and_privileged_are_two_things() {
    let flags = |spec: ServiceSpec| (spec.one_shot, spec.privileged);
    assert_eq!(flags(spec_with(json!({"one_shot": true, "privileged": null}))), (true, false));
    assert_eq!(flags(spec_with(json!({"one_shot": false, "privileged": true}))), (false, true));
}

#[test]
fn modes_are_octal() {
    for (text, mode) in [("0644", 0o644), ("755", 0o755), ("4755", 0o4755), ("", 0o644)] {
        let spec = spec_with(json!({"added_files": [{"path": "/a", "content": "", "mode": text}]}));
        assert_eq!(spec.added_files[0].mode, mode, "{text}");
    }
    for text in ["0o644", "888", "+644", "12345", "7", "rw-r--r--"] {
        assert_eq!(
            service_problems(json!({"added_files": [{"path": "/a", "content": "", "mode": text}]})),
            one(
                SlaErrorCode::InvalidValue,
                "added_files[0].mode",
                &format!("must be three or four octal digits such as `0644`, but is \"{text}\"")
            )
        );
    }
}

#[test]
fn added_files_are_bounded_in_all() {
    let half = "x".repeat(MAX_ADDED_FILES_BYTES / 2);
    let files = |rest: &str| {
        json!({"added_files": [
            {"path": "/a", "content": half}, {"path": "/b", "content": half}, {"path": "/c", "content": rest},
        ]})
    };
    assert_eq!(spec_with(files("")).added_files.len(), 3);
    assert_eq!(
        service_problems(files("x")),
        one(
            SlaErrorCode::TooLarge,
            "added_files",
            "must hold at most 1048576 bytes in all, but holds 1048577: put large files into the image"
        )
    );
}

#[test]
fn lists_and_texts_are_bounded() {
    let entries = |count: usize| json!({"cmd": vec!["a"; count]});
    spec_with(entries(MAX_LIST_ENTRIES));
    assert_eq!(
        service_problems(entries(MAX_LIST_ENTRIES + 1)),
        one(SlaErrorCode::TooLarge, "cmd", "must have at most 1000 entries, but has 1001")
    );
    assert_eq!(
        service_problems(json!({"cmd": ["a".repeat(MAX_ENTRY_BYTES + 1)]})),
        one(SlaErrorCode::TooLarge, "cmd[0]", "must have at most 131071 bytes, but has 131072")
    );
    assert_eq!(
        service_problems(json!({"description": "a".repeat(MAX_TEXT_LENGTH + 1)})),
        one(SlaErrorCode::TooLarge, "description", "must have at most 4096 characters, but has 4097")
    );
    let application = json!({"application_name": "a", "application_namespace": "b", "microservices": []});
    let many = document_with("applications", json!(vec![application; MAX_APPLICATIONS + 1]));
    let is_wrong = "`applications` must have at most 100 entries, but has 101";
    assert_eq!(problems_of(&many), one(SlaErrorCode::TooLarge, "applications", is_wrong));
    let many = application_with("microservices", json!(vec![json!({}); MAX_SERVICES + 1]));
    let path = "applications[0].microservices";
    let is_wrong = format!("`{path}` must have at most 1000 entries, but has 1001");
    assert_eq!(problems_of(&many), one(SlaErrorCode::TooLarge, path, &is_wrong));
}

#[test]
fn no_nul_reaches_a_process() {
    for (value, place) in [(json!({"cmd": ["a\u{0}"]}), "cmd[0]"), (json!({"port": "\u{0}"}), "port")] {
        assert_eq!(
            service_problems(value),
            one(SlaErrorCode::InvalidValue, place, "must not contain a NUL character")
        );
    }
}

#[test]
fn direct_constraints_that_name_nothing_constrain_nothing() {
    let spec = spec_with(json!({"constraints": [
        {"type": "direct"},
        {"type": "direct", "cluster": " ; ", "node": ""},
        {"type": "direct", "cluster": "a;b"},
        {"type": "direct", "node": "n 1"},
    ]}));
    let names = |names: &[&str]| names.iter().copied().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        spec.constraints,
        [
            DirectConstraint { clusters: names(&["a", "b"]), nodes: vec![] },
            DirectConstraint { clusters: vec![], nodes: names(&["n 1"]) },
        ]
    );
}

#[test]
fn constraints_need_a_known_type_and_known_fields() {
    let problems = service_problems(json!({"constraints": [
        {"cluster": "a"},
        {"type": "dirct", "cluster": "a"},
        {"type": "direct", "nodes": "a"},
        {"type": "latency", "aera": ""},
    ]}));
    let expected = |code, place: &str, is_wrong: &str| (code, place.to_owned(), is_wrong.to_owned());
    assert_eq!(
        problems,
        [
            expected(
                SlaErrorCode::MissingField,
                "constraints[0].type",
                "is missing: a constraint needs it (The kind of constraint: `direct`, `clusters` or `geo`)"
            ),
            expected(
                SlaErrorCode::InvalidValue,
                "constraints[1].type",
                "must be `direct` or `clusters` or `geo`, but is \"dirct\"; did you mean `direct`?"
            ),
            expected(
                SlaErrorCode::UnknownField,
                "constraints[2].nodes",
                "is an unknown field; did you mean `node`?"
            ),
            expected(
                SlaErrorCode::UnknownField,
                "constraints[3].aera",
                "is an unknown field; did you mean `area`?"
            ),
        ]
    );
}

#[test]
fn what_is_not_there_yet_is_refused_by_name_once_it_is_asked_for() {
    let asked = [
        ("vtpus", json!(1)),
        ("vram", json!(1024)),
        ("bandwidth_in", json!(100)),
        ("bandwidth_out", json!("fast")),
        ("state", json!("http://example.org/state")),
        ("args", json!(["", "a"])),
        ("sla_violation_strategy", json!("migrate")),
        ("target_node", json!("n1")),
        ("RR_ip", json!("10.30.0.1")),
        ("RR_ip_v6", json!("fdff:2000::1")),
        ("connectivity", json!([{"target_microservice_id": "a", "con_constraints": []}])),
        ("volumes", json!([{"volume_id": "a", "csi_driver": "b"}])),
        ("platform", json!("linux/amd64")),
        ("vm_images", json!(["a"])),
    ];
    for (name, value) in asked {
        let about = fields::SERVICE.find(name).expect("a known field").about;
        assert_eq!(
            service_problems(json!({name: value})),
            one(
                SlaErrorCode::NotSupported,
                name,
                &format!("is not supported yet ({about}): remove the field")
            )
        );
        for blank in [
            json!(null),
            json!(""),
            json!("None"),
            json!(0),
            json!(0.0),
            json!(false),
            json!([]),
            json!([""]),
            json!({}),
        ] {
            assert_eq!(spec_with(json!({name: blank})), spec_with(json!({})), "{name}: {blank}");
        }
    }
    let path = "args";
    let is_wrong = "`args` is not supported yet (arguments for all applications): remove the field";
    assert_eq!(
        problems_of(&document_with("args", json!(["a"]))),
        one(SlaErrorCode::NotSupported, path, is_wrong)
    );
}

#[test]
fn the_root_gives_services_their_ids() {
    assert_eq!(
        service_problems(json!({"microserviceID": "abc"})),
        one(
            SlaErrorCode::InvalidValue,
            "microserviceID",
            "must be empty, because the root gives services their ids, but is \"abc\""
        )
    );
}

#[test]
fn hostile_text_is_shown_short_and_on_one_line() {
    let problems = service_problems(json!({"virtualization": format!("a\n{}", "b".repeat(1000))}));
    let expected = format!("must be `container` or `docker`, but is \"a\\n{}…\"", "b".repeat(58));
    assert_eq!(problems, one(SlaErrorCode::InvalidValue, "virtualization", &expected));
}
