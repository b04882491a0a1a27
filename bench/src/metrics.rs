//! Counters from a server's `/metrics` page (Prometheus text format 0.0.4).

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest page read, in bytes.
const MAX_PAGE: u64 = 4 << 20;

/// The metrics page as it was.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// Fetches the page from `authority`, a host and port.
    pub async fn fetch(authority: &str) -> anyhow::Result<Metrics> {
        Ok(Metrics(get(authority, "/metrics").await?))
    }

    /// The sum over all label sets of a metric; none if the page does not have it.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let values = self.0.lines().filter_map(|line| {
            let labels = line.strip_prefix(name)?;
            let value = match labels.strip_prefix('{') {
                Some(labels) => labels.rsplit_once('}')?.1,
                None => labels.strip_prefix(' ')?,
            };
            value.split_whitespace().next()?.parse::<f64>().ok()
        });
        values.reduce(|sum, value| sum + value)
    }
}

/// Fetches a page over HTTP/1.0, which needs no chunked encoding.
pub async fn get(authority: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(authority)
        .await
        .with_context(|| format!("cannot connect to {authority}"))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.take(MAX_PAGE).read_to_string(&mut response).await?;
    let Some((head, body)) = response.split_once("\r\n\r\n") else {
        bail!("{authority} did not answer GET {path} with HTTP");
    };
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200 ") {
        bail!("{authority} answered GET {path} with \"{status}\"");
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_are_summed_and_names_matched_whole() {
        let metrics = Metrics(
            "# TYPE forwarded_total counter\n\
             forwarded_total{worker=\"0\"} 5\n\
             forwarded_total{worker=\"1\",kind=\"}\"} 7 1700000000\n\
             forwarded_total_bytes 100\n\
             plain 3\n"
                .to_owned(),
        );
        assert_eq!(metrics.sum("forwarded_total"), Some(12.0));
        assert_eq!(metrics.sum("plain"), Some(3.0));
        assert_eq!(metrics.sum("absent"), None);
    }
}
