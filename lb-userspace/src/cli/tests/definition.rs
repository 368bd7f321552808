//! What may be typed, without an agent.

use super::*;

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_line_of_the_examples_can_be_typed() {
    let mut commands = vec![Cli::command()];
    let mut examples = 0;
    while let Some(mut command) = commands.pop() {
        commands.extend(command.get_subcommands().cloned());
        let shown = command.render_long_help().to_string();
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        for line in help.lines().filter(|line| line.starts_with("  ")) {
            assert!(shown.contains(line.trim_end()), "help breaks {line:?}:\n{shown}");
            assert!(line.len() <= 80, "a terminal would break {line:?}");
        }
        let help = help.replace("\\\n", " ");
        for line in help.lines().filter_map(|line| line.strip_prefix("  lb ")) {
            let line = line
                .split(" && ")
                .next()
                .expect("a first part")
                .split(" > ")
                .next()
                .expect("a first part");
            let line = if line.contains("--hex") {
                "explain --hex 0200"
            } else {
                line
            };
            if let Err(error) = parse(&line.replace('\'', "")) {
                panic!("{line}: {error}");
            }
            examples += 1;
        }
    }
    assert!(examples > 20, "only {examples} examples were found");
}

#[test]
fn refuses_what_makes_no_sense() {
    for line in [
        "",
        "run",
        "run --iface a/b",
        "run --iface interface-with-a-name-too-long",
        "run --iface eth0 --mode fast",
        "run --iface eth0 --hash-seed 12345678901234567",
        "service add web",
        &format!("{WEB} --slots some"),
        &format!("{WEB} --tunnel-port 0"),
        &format!("{WEB} --mss-clamp 100"),
        &format!("{WEB} --fragments first"),
        &format!("{WEB} --deny 10.0.0.1/8"),
        &format!("{WEB} --quic 0:3"),
        &format!("{WEB} --quic 0:3:8:8f"),
        &WEB.replace("80 --f", "90-80 --f"),
        "service set web --port 81",
        "service set web --protocol udp",
        "service set web --no-source --deny 10.0.0.0/8",
        "backend add web 10.0.0.5 --vlan 4095",
        "backend add web 10.0.0.5 --server-id xyz",
        "backend set web 10.0.0.5 --vlan 5 --no-vlan",
        &format!("{WEB} --backend host"),
        &format!("{WEB} --backend 10.0.0.5@heavy"),
        &format!("{WEB} --check-path /"),
        &WEB.replace("80 --f", "0 --f"),
        &WEB.replace("web", "-"),
        "backend add web",
        "backend set web 10.0.0.5",
        "backend add web 10.0.0.5 --weight 65536",
        "backend drain web 10.0.0.5 --if-generation -1",
        "explain",
        "explain tcp 198.51.100.7",
        "explain sctp 198.51.100.7 192.0.2.80",
        "explain tcp 198.51.100.7 192.0.2.80:80 --hex 00",
        "explain tcp 198.51.100.7 192.0.2.80:80 --flags X",
        "explain --hex 00 --size 3",
        "explain --hex 00 --mac 02:00:00:00:00:01",
        "explain tcp 198.51.100.7 192.0.2.80:80 --mac 02:00",
        "explain --hex 00 --connection-id 00",
        "explain udp 198.51.100.7 192.0.2.80:80 --connection-id 0",
        "plan",
        "plan list",
        "plan backend set web 10.0.0.5",
        "plan completions bash",
        "completions cmd",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn run_takes_its_options() {
    let line =
        "run --iface eth0 eth1,eth2 --iface eth3 --mode auto --pin-dir /sys/fs/bpf/lb --hash-seed deadbeef";
    let Verb::Run(options) = parse(line).expect(line).verb else {
        panic!("no run")
    };
    assert_eq!(options.interfaces, ["eth0", "eth1", "eth2", "eth3"]);
    assert_eq!(
        (options.mode, options.hash_seed.map(|seed| seed.0)),
        (crate::dataplane::Mode::Auto, Some(0xdead_beef))
    );
    assert_eq!(options.state_dir, PathBuf::from("/var/lib/lb"));
}

#[test]
fn the_reference_names_every_verb_and_option() {
    let reference = include_str!("../../../../docs/cli.md");
    let mut commands = vec![("lb".to_owned(), Cli::command())];
    while let Some((path, command)) = commands.pop() {
        // What can be planned is described where it is done.
        let described = path.replacen("lb plan ", "lb ", 1);
        assert!(reference.contains(&described), "`{path}` is not in docs/cli.md");
        for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(
                reference.contains(&format!("--{option}")),
                "`{path} --{option}` is not in docs/cli.md"
            );
        }
        for verb in command.get_subcommands() {
            commands.push((format!("{path} {}", verb.get_name()), verb.clone()));
        }
    }
}
