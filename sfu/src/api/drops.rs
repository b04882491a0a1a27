//! Why packets are dropped: the one list of reasons, for the counters, the code and the guide.

/// Declares [`DropReason`], with the label of each reason in metrics and the sentence in the guide.
macro_rules! reasons {
    ($($reason:ident $label:literal $help:literal;)*) => {
        /// Why a packet, or what came of a datagram, was not passed on.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum DropReason {
            $(#[doc = $help] $reason,)*
        }

        impl DropReason {
            /// All of them, in the order of the guide.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$reason,)*];

            /// The stable label of `confab_dropped_total`.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self {
                    $(DropReason::$reason => $label,)*
                }
            }

            /// What it means, as a sentence.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self {
                    $(DropReason::$reason => $help,)*
                }
            }
        }
    };
}

reasons! {
    RtpFlood "rtp_flood" "RTP beyond what a client may send.";
    RtpBeforeDtls "rtp_before_dtls" "RTP before the DTLS handshake has ended.";
    RtpMalformed "rtp_malformed" "It authenticated, and is no RTP.";
    RtpDisplacedSsrc "rtp_displaced_ssrc" "SRTP of an SSRC that another has taken over from.";
    RtpUnknownSsrc "rtp_unknown_ssrc" "Nothing says which m-line the SSRC is of.";
    RtpDuplicate "rtp_duplicate" "A packet that had come before, such as one sent again in vain.";
    RtpPayloadType "rtp_payload_type" "A payload type that was not negotiated, or does not go with the audio there.";
    RtpMalformedPayload "rtp_malformed_payload" "A payload that is not what its payload type's payloads look like.";
    RtxUnneeded "rtx_unneeded" "A retransmission or repair packet of what is not missing, or padding that probes.";
    RtcpFlood "rtcp_flood" "RTCP beyond what a client may send.";
    RtcpBeforeDtls "rtcp_before_dtls" "RTCP before the DTLS handshake has ended.";
    RtcpMalformed "rtcp_malformed" "It authenticated, and is no RTCP.";
    RtcpTooLong "rtcp_too_long" "RTCP of ours that did not fit into a packet.";
    Malformed "malformed" "It is no SRTP.";
    NotAuthentic "not_authentic" "SRTP that was not made with the client's keys, or was altered.";
    Replayed "replayed" "SRTP seen before, or too old to know.";
    NotEncrypted "not_encrypted" "SRTCP without encryption.";
    TooManySsrcs "too_many_ssrcs" "SRTP that would begin one stream too many.";
    SsrcRetired "ssrc_retired" "SRTP of a stream that has been forgotten to make room.";
    NoRoom "no_room" "A packet of ours with no room for its SRTP trailer.";
    IndexExhausted "index_exhausted" "RTCP of ours after 2^31 with one key.";
    BadKey "bad_key" "An SRTP key of the wrong length.";
    StunMalformed "stun_malformed" "It is no STUN.";
    StunNotBindingRequest "stun_not_binding_request" "STUN that is no connectivity check.";
    StunBadFingerprint "stun_bad_fingerprint" "STUN whose FINGERPRINT is wrong.";
    StunUnknownUsername "stun_unknown_username" "A check whose USERNAME is missing or not ours.";
    StunUnknownUfrag "stun_unknown_ufrag" "A check for a connection that this worker does not have.";
    StunNoIntegrity "stun_no_integrity" "A check without MESSAGE-INTEGRITY.";
    StunBadIntegrity "stun_bad_integrity" "A check that was not made with our password.";
    StunUnknownAttribute "stun_unknown_attribute" "A check with an attribute that has to be understood.";
    StunRoleConflict "stun_role_conflict" "A check whose client claims the controlled role.";
    StunAvoidedWay "stun_avoided_way" "A check over UDP of a client that is to leave it.";
    StunRepeated "stun_repeated" "A check seen on another path before.";
    StunUnexpectedAnswer "stun_unexpected_answer" "An answer to no check of the server's.";
    StunPathOfAnother "stun_path_of_another" "A check from an address where another client is.";
    UnvalidatedAddress "unvalidated_address" "Anything but checks from an address that has passed none.";
    UnknownProtocol "unknown_protocol" "Neither STUN, DTLS, RTP nor RTCP.";
    DtlsApplicationData "dtls_application_data" "Data over DTLS: data channels are not served.";
    TcpNotStun "tcp_not_stun" "A TCP connection that does not begin with a check.";
    TcpTooLong "tcp_too_long" "A TCP connection that announces too long a packet.";
    TcpUnproven "tcp_unproven" "A TCP connection that has proved nothing for ten seconds.";
    TcpCrowdedOut "tcp_crowded_out" "A TCP connection that has proved nothing, to make room for a newer one.";
    TcpNotTakenOver "tcp_not_taken_over" "A TCP connection that could not be taken over from a shared port.";
    TcpSlowPicture "tcp_slow_picture" "Video that waited for too long for a client on TCP.";
    TcpSlowOther "tcp_slow_other" "Sound and control that found no room for a client on TCP.";
    AudioLevelsFull "audio_levels_full" "Levels of audio beyond what is kept between two reports.";
    MailboxFull "mailbox_full" "Media for another worker that cannot keep up.";
    NackUnanswered "nack_unanswered" "A request for a packet that is not kept any more, or beyond what may be sent again.";
    PacerDropped "pacer_dropped" "Packets that waited for too long to be sent, or are of no use any more.";
    SendUnprovedPath "send_unproved_path" "More than three times what came from a path on which the client has proved nothing (RFC 9000 section 8.1).";
    SendUnsealed "send_unsealed" "A packet that could not be sealed.";
    SendFailed "send_failed" "A packet that the kernel did not take.";
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_the_table_of_reasons() {
        let rows = DropReason::ALL.iter().map(|reason| {
            let (label, help) = (reason.label(), reason.help());
            format!("| `{label}` | {help} |\n")
        });
        let table: String = rows.collect();
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let text = std::fs::read_to_string(guide).unwrap();
        let head = "| `reason` | what was dropped |\n| --- | --- |\n";
        let (before, rest) = text.split_once(head).unwrap();
        let end = rest.find("\n\n").unwrap_or(rest.len()) + 1;
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let text = format!("{before}{head}{table}{}", &rest[end..]);
            std::fs::write(guide, text).unwrap();
            return;
        }
        assert_eq!(
            rest[..end],
            table,
            "UPDATE_DOCS=1 cargo test -p confab-sfu reasons writes it anew"
        );
    }

    #[test]
    fn labels_are_told_apart() {
        let mut labels: Vec<&str> = DropReason::ALL.iter().map(|r| r.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), DropReason::ALL.len());
    }
}
