//! The example and the reference name what the parser knows.

use super::*;

/// The keys that the table takes, as the parser itself lists them.
fn known_keys(table: &str) -> Vec<String> {
    let unknown = refusal(&format!("{table}\nzzz = 1\n")).message;
    let keys: Vec<_> = unknown.split('`').skip(3).step_by(2).map(String::from).collect();
    assert!(!keys.is_empty(), "{unknown}");
    keys
}

const TABLES: [&str; 5] = [
    "[dataplane]",
    "[checkpoint]",
    "[[service]]",
    "[[service.backend]]",
    "[service.check]",
];

fn table_in_service(table: &str) -> Vec<String> {
    match table {
        "[[service.backend]]" | "[service.check]" => known_keys(&format!("[[service]]\n{table}")),
        _ => known_keys(table),
    }
}

const EXAMPLE: &str = include_str!("../../../../docs/lb.example.toml");

/// The example with every key in force.
fn uncommented() -> String {
    EXAMPLE.lines().map(in_force).collect::<Vec<_>>().join("\n")
}

/// A commented key without its mark; prose has a blank behind the mark.
fn in_force(line: &str) -> &str {
    line.strip_prefix('#')
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
        .unwrap_or(line)
}

#[test]
fn the_example_is_good_with_and_without_its_comments() {
    let example = Config::parse(EXAMPLE, Path::new("lb.example.toml")).expect("a good example");
    assert_eq!(
        (example.services.len(), &example.dataplane),
        (5, &DataplaneConfig::default())
    );
    let all = Config::parse(&uncommented(), Path::new("lb.example.toml")).expect("good with every key");
    assert_eq!(
        DataplaneConfig {
            hash_seed: None,
            fullnat_addresses: Vec::new(),
            accept_macs: Vec::new(),
            ..all.dataplane
        },
        DataplaneConfig::default(),
        "the defaults are shown"
    );
}

#[test]
fn example_and_reference_name_every_key() {
    let reference = include_str!("../../../../docs/config.md");
    let example = uncommented();
    for table in TABLES {
        let (_, section) = reference.split_once(&format!("## `{table}`")).expect(table);
        let section = section.split("\n## ").next().expect("a section");
        for key in table_in_service(table) {
            assert!(
                section.contains(&format!("| `{key}` |")),
                "{table} {key} is not in docs/config.md"
            );
            let is_table = key == "backend" || key == "check";
            let shown = is_table || example.contains(&format!("\n{key} = "));
            assert!(shown, "{table} {key} is not in docs/lb.example.toml");
        }
    }
}
