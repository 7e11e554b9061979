//! A vendor that fails is told apart from a login that is refused.

use proptest::prelude::*;

use super::*;

#[tokio::test(start_paused = true)]
async fn in_an_outage_a_token_serves_until_its_end_and_then_says_outage() {
    let issuer = Issuer::new().fails_with([Failure::Status(500); 1000]);
    let login = Login::ending_in(700, issuer);
    let credential = login.open().await;
    login.issuer.asked(3).await;
    assert_eq!(credential.try_current(), Some(access(0)));
    assert!(matches!(
        credential.problem().unwrap().reason(),
        Reason::Outage { .. }
    ));
    tokio::time::sleep(Duration::from_secs(800)).await;
    let started = tokio::time::Instant::now();
    let problem = credential.current().await.unwrap_err();
    assert!(
        matches!(problem.reason(), Reason::Outage { .. }),
        "{problem:?}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "no request waits out an outage"
    );
    // 1, 2, 4, ... 32 s, then each minute: 800 s hold at most twenty.
    assert!(
        (5..=20).contains(&login.issuer.requests()),
        "{}",
        login.issuer.requests()
    );
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_outage_passes() {
    let failures = [
        Failure::Unreachable,
        Failure::Stall,
        Failure::HangUp,
        Failure::Page,
        Failure::Status(500),
        Failure::Status(529),
        Failure::Status(429),
        Failure::Status(403),
        Failure::Status(302),
    ];
    for failure in failures {
        let login = Login::ending_in(-10, Issuer::new().fails_with([failure]));
        let credential = login.open().await;
        let problem = credential.current().await.unwrap_err();
        assert!(
            matches!(problem.reason(), Reason::Outage { .. }),
            "{failure:?}: {problem:?}"
        );
        becomes(&credential, &access(1)).await;
        assert_eq!(credential.current().await.unwrap(), access(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_stalled_issuer_no_longer_than_stated() {
    let login = Login::ending_in(-10, Issuer::new().fails_with([Failure::Stall; 9]));
    let started = tokio::time::Instant::now();
    let credential = login.open().await;
    assert!(credential.current().await.is_err());
    assert!(
        started.elapsed() <= Duration::from_secs(21),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_is_not_sent_again_and_a_new_one_needs_no_restart() {
    for status in [400, 401] {
        let login = Login::ending_in(-10, Issuer::new().fails_with([Failure::Status(status)]));
        let credential = login.open().await;
        for _ in 0..3 {
            let problem = credential.current().await.unwrap_err();
            assert_eq!(problem.reason(), Reason::LoginRefused);
            assert_eq!(
                problem.hint(),
                Some("log in again with `claude`, then `/login`")
            );
            tokio::time::advance(Duration::from_secs(100)).await;
        }
        assert_eq!(login.issuer.requests(), 1);
        login.write(5, 36_000);
        becomes(&credential, &access(5)).await;
        assert_eq!(
            credential.problem().map(|problem| problem.to_string()),
            None
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_keeps_its_token_until_the_upstream_refuses_that_too() {
    let login = Login::ending_in(300, Issuer::new().fails_with([Failure::Status(400)]));
    let credential = login.open().await;
    login.issuer.asked(1).await;
    assert_eq!(credential.current().await.unwrap(), access(0));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(credential.current().await.unwrap(), access(0));
    credential.refused(&access(0));
    assert_eq!(
        credential.current().await.unwrap_err().reason(),
        Reason::LoginRefused
    );
}

#[tokio::test(start_paused = true)]
async fn no_error_and_no_debug_text_holds_a_token() {
    let mut texts = Vec::new();
    let failures = [
        Failure::Unreachable,
        Failure::Stall,
        Failure::HangUp,
        Failure::Page,
        Failure::Status(500),
        Failure::Status(400),
    ];
    for failure in failures {
        let login = Login::ending_in(-10, Issuer::new().fails_with([failure]));
        let credential = login.open().await;
        let problem = credential.current().await.unwrap_err();
        assert!(!format!("{problem:?} {credential:?} {:?}", login.credentials).contains("CANARY"));
        let text = crate::base::chain(&problem);
        texts.push(text.replace(login.folder.path().to_str().unwrap(), "~"));
    }
    let login = Login::ending_in(-10, Issuer::new());
    for broken in [
        "{\"claudeAiOauth\": CANARY",
        "[\"CANARY\"]",
        "{\"claudeAiOauth\":{\"accessToken\":\"CANARY\\n\"}}",
        "{\"claudeAiOauth\":{}}",
        "{\"claudeAiOauth\":{\"accessToken\":\"CANARY\",\"expiresAt\":\"CANARY\"}}",
    ] {
        std::fs::write(login.path(), broken).unwrap();
        let credential = opened(&login.another_process(), &claude()).await;
        let problem = credential.problem().unwrap();
        assert!(!format!("{problem:?} {credential:?}").contains("CANARY"));
        let text = crate::base::chain(&problem);
        texts.push(text.replace(login.folder.path().to_str().unwrap(), "~"));
    }
    insta::assert_snapshot!(texts.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever fails, in whatever order: no spent token is sent again, and
    /// all is well when the issuer is.
    #[test]
    fn no_order_of_failures_spends_a_token_twice(
        failures in prop::collection::vec(prop_oneof![
            Just(Failure::Unreachable),
            Just(Failure::Stall),
            Just(Failure::Page),
            Just(Failure::Status(503)),
        ], 0..6),
        refusals in prop::collection::vec(0_u64..200, 0..6),
        ends_in in -100_i64..1000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let login = Login::ending_in(ends_in, Issuer::new().issues_for(400).fails_with(failures));
            let credential = login.open().await;
            for pause in refusals {
                if let Some(secret) = credential.try_current() {
                    credential.refused(&secret);
                }
                tokio::time::sleep(Duration::from_secs(pause)).await;
            }
            tokio::time::sleep(Duration::from_secs(300)).await;
            assert!(credential.current().await.is_ok());
            assert_eq!(login.issuer.reuses(), 0);
        });
    }
}
