use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

/// A relay, the socket it leads to, and the folder that holds the socket.
async fn relay() -> (Relay, UnixListener, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    let listener = UnixListener::bind(&path).unwrap();
    (Relay::start(path).await.unwrap(), listener, folder)
}

async fn connected(relay: &Relay, proxy: &UnixListener) -> (TcpStream, UnixStream) {
    let client = TcpStream::connect(relay.address).await.unwrap();
    let accepted = timeout(DEADLINE, proxy.accept()).await.unwrap().unwrap();
    (client, accepted.0)
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_side_may_finish_first() {
    let (relay, listener, _folder) = relay().await;
    assert_eq!(relay.base_url(), format!("http://{}", relay.address));
    let (mut client, mut proxy) = connected(&relay, &listener).await;

    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    let mut request = Vec::new();
    timeout(DEADLINE, proxy.read_to_end(&mut request))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(request, b"request");

    // The answer comes after the client has said its last word.
    proxy.write_all(b"answer").await.unwrap();
    drop(proxy);
    let mut answer = Vec::new();
    timeout(DEADLINE, client.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, b"answer");
}

#[tokio::test]
async fn a_piece_arrives_before_the_next_is_written() {
    let (relay, listener, _folder) = relay().await;
    let (mut client, mut proxy) = connected(&relay, &listener).await;
    for piece in [b"event 1", b"event 2"] {
        proxy.write_all(piece).await.unwrap();
        let mut read = [0; 7];
        timeout(DEADLINE, client.read_exact(&mut read))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&read, piece);
    }
}

#[tokio::test]
async fn a_client_that_aborts_ends_the_proxys_connection() {
    let (relay, listener, _folder) = relay().await;
    let (client, mut proxy) = connected(&relay, &listener).await;
    client.set_zero_linger().unwrap();
    drop(client);
    let mut rest = Vec::new();
    timeout(DEADLINE, proxy.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    let write = async {
        loop {
            if let Err(error) = proxy.write_all(&[0; 4096]).await {
                return error;
            }
        }
    };
    let error = timeout(DEADLINE, write).await.unwrap();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_missing_proxy_is_a_reset_and_not_an_empty_answer() {
    let relay = Relay::start("/nonexistent/proxy.sock".into())
        .await
        .unwrap();
    let mut client = TcpStream::connect(relay.address).await.unwrap();
    let mut rest = Vec::new();
    let error = timeout(DEADLINE, client.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_dropped_relay_takes_its_connections_along() {
    let (relay, listener, _folder) = relay().await;
    let (mut client, _proxy) = connected(&relay, &listener).await;
    let address = relay.address;
    drop(relay);
    let mut rest = Vec::new();
    // An end or a reset, as long as it comes.
    let _ = timeout(DEADLINE, client.read_to_end(&mut rest))
        .await
        .unwrap();
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn connections_over_the_cap_wait_for_room() {
    let (relay, listener, _folder) = relay().await;
    let mut open = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        open.push(connected(&relay, &listener).await);
    }
    let waiting = TcpStream::connect(relay.address).await.unwrap();
    let early = timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(
        early.is_err(),
        "one more connection than the cap was relayed"
    );
    open.pop();
    timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    drop(waiting);
}
