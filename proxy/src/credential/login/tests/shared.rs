//! One renewal, whoever asks for it, and nobody's refresh token used twice.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_token_with_time_left_is_served_without_asking_the_issuer() {
    let login = Login::ending_in(3600, Issuer::new());
    let credential = login.open().await;
    assert_eq!(credential.try_current(), Some(access(0)));
    assert_eq!(login.issuer.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_ten_minutes_before_its_end() {
    let login = Login::ending_in(3600, Issuer::new());
    let credential = login.open().await;
    tokio::time::advance(Duration::from_secs(3600 - 601)).await;
    assert_eq!(login.issuer.requests(), 0);
    let started = tokio::time::Instant::now();
    becomes(&credential, &access(1)).await;
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_hundred_waiters_cause_one_request() {
    let login = Login::ending_in(-10, Issuer::new());
    let first = login.open().await;
    tokio::time::advance(Duration::from_secs(7200)).await;
    let waiters: Vec<_> = (0..100)
        .map(|_| {
            let credential = first.clone();
            tokio::spawn(async move { credential.current().await.unwrap() })
        })
        .collect();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), access(2));
    }
    assert_eq!((login.issuer.requests(), login.issuer.reuses()), (2, 0));
}

#[test]
fn renewal_is_single_flight_across_threads() {
    let issuer = Issuer::new();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let keeper = runtime();
    let login = {
        let _entered = keeper.enter();
        Login::ending_in(3600, issuer)
    };
    let credential = keeper.block_on(login.open());
    credential.refused(&access(0));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    runtime().block_on(async {
                        credential.refused(&access(0));
                        credential.current().await.unwrap()
                    })
                })
            })
            .collect();
        keeper.block_on(becomes(&credential, &access(1)));
        for thread in threads {
            assert_eq!(thread.join().unwrap(), access(1));
        }
    });
    assert_eq!(login.issuer.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_outlives_the_request_that_asked_for_it() {
    let login = Login::ending_in(3600, Issuer::new());
    let credential = login.open().await;
    credential.refused(&access(0));
    {
        let request = credential.current();
        tokio::pin!(request);
        assert!(futures_poll_once(request.as_mut()).await.is_none());
    }
    becomes(&credential, &access(1)).await;
    assert_eq!(
        login.saved()["claudeAiOauth"]["refreshToken"],
        "CANARY-refresh-1"
    );
}

/// Polls once and gives up.
async fn futures_poll_once<F: Future + Unpin>(future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_401_renews_once_and_not_again_within_a_minute() {
    let login = Login::ending_in(3600, Issuer::new());
    let credential = login.open().await;
    for _ in 0..10 {
        credential.refused(&access(0));
    }
    assert_eq!(
        credential.try_current(),
        None,
        "requests wait for the renewal"
    );
    assert_eq!(credential.current().await.unwrap(), access(1));
    credential.refused(&access(0));
    credential.refused(&access(1));
    assert_eq!(credential.current().await.unwrap(), access(1));
    assert_eq!(login.issuer.requests(), 1);
    tokio::time::advance(Duration::from_secs(61)).await;
    credential.refused(&access(1));
    assert_eq!(credential.current().await.unwrap(), access(2));
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_a_renewal_in_flight() {
    let login = Login::ending_in(300, Issuer::new());
    let credential = login.open().await;
    credential.refused(&access(0));
    login.credentials.end().await;
    assert_eq!(
        login.saved()["claudeAiOauth"]["refreshToken"],
        "CANARY-refresh-1"
    );
    assert_eq!(credential.try_current(), Some(access(1)));
    // Ended once is ended.
    login.credentials.end().await;

    let login = Login::ending_in(300, Issuer::new().fails_with([Failure::Stall; 2]));
    login.open().await.refused(&access(0));
    let started = tokio::time::Instant::now();
    login.credentials.end().await;
    assert!(started.elapsed() <= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn processes_that_share_a_login_renew_it_once() {
    let login = Login::ending_in(-10, Issuer::new());
    let others = [
        login.another_process(),
        login.another_process(),
        login.another_process(),
    ];
    let claude = claude();
    let (a, b, c) = tokio::join!(
        opened(&others[0], &claude),
        opened(&others[1], &claude),
        opened(&others[2], &claude)
    );
    for credential in [a, b, c] {
        assert_eq!(credential.current().await.unwrap(), access(1));
    }
    assert_eq!((login.issuer.requests(), login.issuer.reuses()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_claude_code_renews_meanwhile_is_taken_over() {
    for name in [".claude/.oauth_refresh.lock", ".claude.lock"] {
        let login = Login::ending_in(3600, Issuer::new());
        let credential = login.open().await;
        let lock = login.folder.path().join(name);
        std::fs::create_dir(&lock).unwrap();
        credential.refused(&access(0));
        // Claude Code writes its new tokens and gives the lock free.
        login.write(7, 3600);
        std::fs::remove_dir(&lock).unwrap();
        assert_eq!(credential.current().await.unwrap(), access(7));
        assert_eq!(login.issuer.requests(), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_held_is_waited_for_and_no_longer_than_stated() {
    let login = Login::ending_in(3600, Issuer::new());
    let credential = login.open().await;
    let lock = login.folder.path().join(".claude/.oauth_refresh.lock");
    std::fs::create_dir(&lock).unwrap();
    credential.refused(&access(0));
    let started = tokio::time::Instant::now();
    // The renewal gives up, and the token that may still be good serves on.
    let _ = credential.current().await;
    assert!(started.elapsed() <= Duration::from_secs(31));
    assert_eq!(login.issuer.requests(), 0);
    std::fs::remove_dir(&lock).unwrap();
    becomes(&credential, &access(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_left_behind_by_a_crash_is_taken_over() {
    let login = Login::ending_in(-10, Issuer::new());
    let lock = login.folder.path().join(".claude/.oauth_refresh.lock");
    std::fs::create_dir(&lock).unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(61);
    std::fs::File::open(&lock)
        .unwrap()
        .set_modified(old)
        .unwrap();
    assert_eq!(login.open().await.current().await.unwrap(), access(1));
    assert!(!lock.exists());
}

#[tokio::test(start_paused = true)]
async fn tokens_that_cannot_be_written_serve_and_are_written_later() {
    let login = Login::ending_in(3600, Issuer::new());
    let credential = login.open().await;
    let (path, old) = (login.path(), std::fs::read(login.path()).unwrap());
    login.issuer.before_next_answer(move || {
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
    });
    credential.refused(&access(0));
    assert_eq!(credential.current().await.unwrap(), access(1));
    // The old tokens come back, as another program's stale copy would.
    std::fs::remove_dir(login.path()).unwrap();
    std::fs::write(login.path(), old).unwrap();
    credential.reload().await.unwrap();
    assert_eq!(credential.current().await.unwrap(), access(1));
    tokio::time::timeout(Duration::from_secs(300), async {
        while login.saved()["claudeAiOauth"]["refreshToken"] != "CANARY-refresh-1" {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!((login.issuer.requests(), login.issuer.reuses()), (1, 0));
}

#[test]
fn a_crash_between_answer_and_write_back_is_reported_and_ends_nothing_early() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    let crashed = runtime();
    let login = {
        let _entered = crashed.enter();
        Login::ending_in(3600, Issuer::new().fails_with([Failure::LostAnswer]))
    };
    let (answered, is_answered) = std::sync::mpsc::channel();
    login
        .issuer
        .before_next_answer(move || answered.send(()).unwrap());
    crashed.block_on(async {
        let credential = login.open().await;
        credential.refused(&access(0));
        // Ends when the issuer has counted the token as spent.
        while is_answered.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
    });
    drop(crashed);

    runtime().block_on(async {
        let after = login.another_process();
        let credential = opened(&after, &claude()).await;
        assert_eq!(
            credential.current().await.unwrap(),
            access(0),
            "still good upstream"
        );
        credential.refused(&access(0));
        let problem = credential.current().await.unwrap_err();
        assert_eq!(problem.reason(), Reason::LoginRefused);
        credential.refused(&access(0));
        assert_eq!(
            login.issuer.reuses(),
            1,
            "sent to learn that it was spent, and no more"
        );
        // A new log-in is taken without a restart.
        login.write(1, 3600);
        becomes(&credential, &access(1)).await;
    });
}
