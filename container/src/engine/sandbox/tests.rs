use super::*;

#[test]
fn the_command_line_survives_the_way_through_argv() {
    let sandbox = Sandbox {
        write: vec!["/a b".into(), "--odd".into()],
        write_checked: vec![CheckedPath {
            path: "/c:d e".into(),
            id: FileId {
                device: 7,
                inode: 42,
            },
        }],
        hide: vec!["/state".into()],
        port: NonZeroU16::new(4711).unwrap(),
    };
    let argv = sandbox.around(Argv::new("agent", ["-x", "--"]));
    let mut args = argv.args.into_iter();
    assert_eq!(args.next().unwrap(), SUBCOMMAND);
    let line = CommandLine::try_parse_from(args).unwrap();
    assert_eq!(line.sandbox, sandbox);
    assert_eq!(line.program, ["agent", "-x", "--"]);
}
