//! The tasks that receive: each arriving track's packets go to the slot it arrived in, and what the
//! slot asks for goes back.

use std::sync::Arc;
use std::time::Instant;

use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use crate::connection::{ArrivedTrack, Connection};
use crate::receive::Requests;
use crate::state::{Shared, Slot};
use crate::sync::lock;

/// Gives each arriving track a task of its own.
pub(crate) async fn serve_tracks(
    shared: Arc<Shared>,
    connection: Arc<tokio::sync::Mutex<Connection>>,
    mut tracks: tokio::sync::mpsc::Receiver<Arc<dyn TrackRemote>>,
) {
    let mut receiving = tokio::task::JoinSet::new();
    while let Some(track) = tracks.recv().await {
        let located = connection.lock().await.locate(track).await;
        let arrived = match located {
            Ok(Some(arrived)) => arrived,
            Ok(None) => {
                shared.note_error("a track arrived that belongs to no slot".to_owned());
                continue;
            }
            Err(error) => {
                shared.note_error(error.to_string());
                continue;
            }
        };
        let slot = lock(&shared.state)
            .slots
            .iter()
            .find(|slot| slot.mid == arrived.mid)
            .cloned();
        if let Some(slot) = slot {
            receiving.spawn(receive(shared.clone(), slot, arrived));
        }
    }
    // Dropping the set would end the tasks, which go on until the connection closes.
    while receiving.join_next().await.is_some() {}
}

/// Takes the packets of one slot, and asks for what it misses.
async fn receive(shared: Arc<Shared>, slot: Slot, arrived: ArrivedTrack) {
    let ArrivedTrack { track, formats, .. } = arrived;
    let mut media_ssrc = None;
    let mut frames = 0;
    loop {
        let deadline = lock(&slot.receiver).next_deadline();
        let event = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), track.poll()).await,
            None => Ok(track.poll().await),
        };
        let now = Instant::now();
        let packet = match event {
            Ok(Some(TrackRemoteEvent::OnRtpPacket(packet))) => Some(packet),
            Ok(Some(_)) => continue,
            Ok(None) => return,
            Err(_) => None,
        };
        let (handled, shown) = {
            let mut receiver = lock(&slot.receiver);
            let handled = match packet {
                Some(packet) => {
                    media_ssrc = Some(packet.header.ssrc);
                    let format = formats.get(&packet.header.payload_type).copied();
                    receiver.handle_packet(now, format, packet)
                }
                None => Ok(()),
            };
            let requests = handled.and_then(|()| receiver.poll_requests(now));
            let new = receiver.frames() > frames;
            frames = receiver.frames();
            (requests, receiver.from().filter(|_| new).map(str::to_owned))
        };
        if let Some(from) = shown {
            lock(&shared.state).handle_picture(from);
        }
        match (handled, media_ssrc) {
            (Ok(requests), Some(media_ssrc)) => ask(&*track, requests, media_ssrc).await,
            (Ok(_), None) => {}
            (Err(error), _) => {
                shared.note_error(error.to_string());
                return;
            }
        }
    }
}

/// An error would mean that the connection is gone, which the next `poll` says too.
async fn ask(track: &dyn TrackRemote, requests: Requests, media_ssrc: u32) {
    if !requests.nacks.is_empty() {
        let nack = TransportLayerNack {
            sender_ssrc: 0,
            media_ssrc,
            nacks: nack_pairs_from_sequence_numbers(&requests.nacks),
        };
        let _ = track.write_rtcp(vec![Box::new(nack)]).await;
    }
    if requests.key_frame {
        let request = PictureLossIndication {
            sender_ssrc: 0,
            media_ssrc,
        };
        let _ = track.write_rtcp(vec![Box::new(request)]).await;
    }
}
