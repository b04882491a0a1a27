/**
 * A WAV that a voice detector takes for speech: syllables of a buzzing voice with formants, pauses
 * between words. Chromium's fake microphone plays it in a loop; its own beep would leave silence
 * in which nothing could be concealed.
 */

const SAMPLE_RATE = 48_000;
const SECONDS = 12;
/** Syllables per second in running speech. */
const SYLLABLE_RATE = 4;
/** Vowel formants in hertz: a, e, i, o, u. */
const FORMANTS = [[730, 1090], [530, 1840], [270, 2290], [570, 840], [300, 870]];
const PITCH_HZ = 125;

/** @returns {Buffer} A mono 16-bit WAV file. */
export function speechWav() {
  const samples = SAMPLE_RATE * SECONDS;
  const data = Buffer.alloc(samples * 2);
  for (let index = 0; index < samples; index += 1) {
    const time = index / SAMPLE_RATE;
    const syllable = Math.floor(time * SYLLABLE_RATE);
    const within = time * SYLLABLE_RATE - syllable;
    const pause = syllable % 7 === 6;
    const envelope = pause ? 0 : Math.sin(Math.PI * within) ** 0.6;
    const pitch = PITCH_HZ * (1 + 0.12 * Math.sin(2 * Math.PI * 0.4 * time));
    const value = envelope * voice(time, pitch, FORMANTS[(syllable * 3) % FORMANTS.length]);
    data.writeInt16LE(Math.round(value * 12_000), index * 2);
  }
  return Buffer.concat([header(data.length), data]);
}

function voice(time, pitch, formants) {
  let sum = 0;
  for (let harmonic = 1; harmonic <= 20; harmonic += 1) {
    const frequency = harmonic * pitch;
    const gain = formants.reduce((total, formant) => total + Math.exp(-(((frequency - formant) / 180) ** 2)), 0.08);
    sum += (gain / harmonic ** 0.5) * Math.sin(2 * Math.PI * frequency * time);
  }
  return Math.max(-1, Math.min(1, sum / 2));
}

function header(bytes) {
  const wav = Buffer.alloc(44);
  wav.write("RIFF", 0);
  wav.writeUInt32LE(36 + bytes, 4);
  wav.write("WAVEfmt ", 8);
  wav.writeUInt32LE(16, 16);
  wav.writeUInt16LE(1, 20);
  wav.writeUInt16LE(1, 22);
  wav.writeUInt32LE(SAMPLE_RATE, 24);
  wav.writeUInt32LE(SAMPLE_RATE * 2, 28);
  wav.writeUInt16LE(2, 32);
  wav.writeUInt16LE(16, 34);
  wav.write("data", 36);
  wav.writeUInt32LE(bytes, 40);
  return wav;
}
