//! Whether the server runs already.
//!
//! In: where it serves HTTP. Out: what it says of itself.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ports::{Port, Running, Transport};

/// How long an answer is waited for. The server is on this machine, and whoever does not answer is
/// taken for another program.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes of an answer that are read: ours has 200.
const MAX_ANSWER_LEN: u64 = 4096;

/// Asks whoever listens there for `/health/ready`.
pub(crate) async fn ask(http_listen: SocketAddr) -> Running {
    let port = Port {
        setting: "http.listen",
        transport: Transport::Tcp,
        address: http_listen,
    };
    match timeout(PATIENCE, get(port.reached_at())).await {
        Ok(Ok(answer)) => judge(&answer),
        _ => Running::No,
    }
}

async fn get(server: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(server).await?;
    let request =
        format!("GET /health/ready HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_LEN).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn judge(answer: &str) -> Running {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Running::No;
    };
    // The word tells our server from others that answer any path.
    match (head.split(' ').nth(1), body.trim()) {
        (Some("200"), "ready") => Running::Ready,
        (Some("503"), "stopping") => Running::Stopping,
        _ => Running::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_servers_are_not_taken_for_ours() {
        for (answer, running) in [
            ("HTTP/1.1 200 OK\r\na: b\r\n\r\nready\n", Running::Ready),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\nstopping\n",
                Running::Stopping,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n<html>ready</html>", Running::No),
            ("HTTP/1.1 404 Not Found\r\n\r\nready\n", Running::No),
            ("SSH-2.0-OpenSSH", Running::No),
            ("", Running::No),
        ] {
            assert_eq!(judge(answer), running, "{answer}");
        }
    }
}
