use super::*;

fn parsed(url: &str) -> Result<Upstream, InvalidUpstream> {
    Upstream::parse(url, false)
}

#[test]
fn the_base_path_is_kept_without_its_last_slash() {
    let upstream = parsed("https://gateway.example:8443/team/anthropic/").unwrap();
    assert_eq!(upstream.base_path(), "/team/anthropic");
    assert_eq!(upstream.authority(), "gateway.example:8443");
    assert_eq!(
        parsed("https://Api.Anthropic.com").unwrap().authority(),
        "api.anthropic.com"
    );
}

#[test]
fn class_26_clear_text_is_for_loopback_only() {
    for good in [
        "http://127.0.0.1:9",
        "http://localhost:9/x",
        "http://[::1]:9",
    ] {
        assert_eq!(parsed(good).unwrap().reach, Reach::Loopback, "{good}");
    }
    for bad in [
        "http://10.0.0.1",
        "http://example.com",
        "http://localhost.example.com",
        "http://[::]:1",
    ] {
        let error = Upstream::parse(bad, true).unwrap_err();
        assert!(matches!(error, InvalidUpstream::ClearText(_)), "{bad}");
    }
}

#[test]
fn class_07_hosts_with_two_readings_are_refused() {
    for bad in [
        "https://user@example.com",
        "https://example.com.",
        "https://exa%6dple.com",
        "https://0x7f.1",
        "https://2130706433",
        "https://127.1",
        "https://0177.0.0.1",
        "https://[fe80::1%25eth0]",
        "https://ex\u{e4}mple.com",
        "https://a..b",
        "https://",
        "https://-a.com",
        "ftp://example.com",
        "example.com",
        "https://example.com/?q=1",
        "https://example.com/#f",
        "https://example.com/a/../b",
        "https://1.2.3.4.5",
        "https://example.com\0.evil.com",
    ] {
        assert!(
            matches!(parsed(bad), Err(InvalidUpstream::NotAUrl(_))),
            "{bad}"
        );
    }
}

#[test]
fn class_13_a_name_reaches_public_addresses_unless_told_otherwise() {
    assert_eq!(
        parsed("https://api.anthropic.com").unwrap().reach,
        Reach::Public
    );
    assert_eq!(parsed("https://10.1.2.3").unwrap().reach, Reach::Private);
    let private = Upstream::parse("https://gateway.corp", true).unwrap();
    assert_eq!(private.reach, Reach::Private);
}
