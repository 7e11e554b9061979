use super::*;

const ORIGIN: Origin = Origin {
    listener: ListenerId(1),
    peer: None,
};

fn spec() -> SessionSpec {
    let run = "run-00000001".parse().unwrap();
    SessionSpec::new(run, Duration::from_secs(60))
}

#[test]
fn a_token_opens_its_session_until_the_guard_goes() {
    let sessions = Sessions::default();
    let guard = sessions.issue(spec()).unwrap();
    let token = guard.token().to_owned();
    let session = sessions.authenticate(token.as_bytes(), ORIGIN).unwrap();
    assert_eq!(&session.id, guard.id());
    drop(guard);
    assert!(sessions.authenticate(token.as_bytes(), ORIGIN).is_none());
}

#[test]
fn class_03_a_wrong_token_opens_nothing() {
    let sessions = Sessions::default();
    let (one, other) = (
        sessions.issue(spec()).unwrap(),
        sessions.issue(spec()).unwrap(),
    );
    let mixed = format!("{}{}", &one.token()[..20], &other.token()[20..]);
    let mut flipped = one.token().to_owned().into_bytes();
    *flipped.last_mut().unwrap() ^= 1;
    let truncated = &one.token()[..one.token().len() - 1];
    let longer = format!("{}0", one.token());
    let upper = one.token().to_uppercase();
    for bad in [
        b"" as &[u8],
        b"dbs_",
        b"placeholder",
        b"dbs_\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        mixed.as_bytes(),
        &flipped,
        truncated.as_bytes(),
        longer.as_bytes(),
        upper.as_bytes(),
    ] {
        assert!(sessions.authenticate(bad, ORIGIN).is_none(), "{bad:?}");
    }
}

#[test]
fn class_03_a_token_is_bound_to_its_listener_or_source() {
    let sessions = Sessions::default();
    let mut bound = spec();
    bound.transport = Transport::Listener(ListenerId(7));
    let guard = sessions.issue(bound.clone()).unwrap();
    let here = Origin {
        listener: ListenerId(7),
        peer: None,
    };
    assert!(
        sessions
            .authenticate(guard.token().as_bytes(), here)
            .is_some()
    );
    assert!(
        sessions
            .authenticate(guard.token().as_bytes(), ORIGIN)
            .is_none()
    );

    for (source, peer, expected) in [
        ("172.17.0.2", "172.17.0.2", true),
        ("172.17.0.2", "::ffff:172.17.0.2", true),
        ("172.17.0.2", "172.17.0.3", false),
        ("172.18.0.0/16", "172.18.7.1", true),
        ("172.18.0.0/16", "172.17.0.2", false),
    ] {
        bound.transport = Transport::Source(source.parse().unwrap());
        let guard = sessions.issue(bound.clone()).unwrap();
        let origin = Origin {
            listener: ListenerId(1),
            peer: Some(peer.parse().unwrap()),
        };
        let opened = sessions
            .authenticate(guard.token().as_bytes(), origin)
            .is_some();
        assert_eq!(opened, expected, "{peer}");
        let over_a_socket = sessions.authenticate(guard.token().as_bytes(), ORIGIN);
        assert!(over_a_socket.is_none());
    }
}

#[test]
fn an_expired_session_is_closed() {
    let sessions = Sessions::default();
    let mut short = spec();
    short.lifetime = Duration::ZERO;
    let guard = sessions.issue(short).unwrap();
    assert!(
        sessions
            .authenticate(guard.token().as_bytes(), ORIGIN)
            .is_none()
    );
}

#[test]
fn class_22_neither_token_nor_proof_is_printed() {
    let sessions = Sessions::default();
    let guard = sessions.issue(spec()).unwrap();
    let proof = &guard.token()[TOKEN_PREFIX.len() + ID_DIGITS..];
    let printed = format!("{guard:?} {sessions:?}");
    assert!(!printed.contains(proof));
    assert!(printed.contains(guard.id().as_str()));
}

#[test]
fn a_kept_session_outlives_its_guard_and_is_revoked_by_name() {
    let sessions = Sessions::default();
    let guard = sessions.issue(spec()).unwrap();
    let id = guard.id().clone();
    let token = guard.keep();
    assert!(sessions.authenticate(token.as_bytes(), ORIGIN).is_some());
    assert!(sessions.revoke(&id));
    assert!(!sessions.revoke(&id));
    assert!(sessions.authenticate(token.as_bytes(), ORIGIN).is_none());
}

#[test]
fn admissions_count_requests_in_flight() {
    use crate::policy::Refusal;
    use crate::session::limit::Admission;
    let sessions = Sessions::default();
    let mut narrow = spec();
    narrow.limits.concurrent = Some(1);
    narrow.limits.output_tokens = Some(10);
    let guard = sessions.issue(narrow).unwrap();
    let session = sessions
        .authenticate(guard.token().as_bytes(), ORIGIN)
        .unwrap();
    let first = Admission::admit(Arc::clone(&session)).unwrap();
    let second = Admission::admit(Arc::clone(&session)).unwrap_err();
    assert!(matches!(second, Refusal::TooManyConcurrent));
    drop(first);
    let third = Admission::admit(Arc::clone(&session)).unwrap();
    session.usage.add_tokens(0, 10);
    drop(third);
    let over = Admission::admit(session).unwrap_err();
    assert!(matches!(over, Refusal::OverBudget("output")));
}
