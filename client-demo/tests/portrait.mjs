/**
 * Painted people, so that pictures of calls look like calls. Runs in the page: playwright hands
 * the function over as text, so it may use nothing from outside itself.
 */

/**
 * Makes `window.portrait(index)`, a video track of a person who sways a little.
 */
export function installPortraits() {
  window.portrait = (index, width = 640, fps = 15, height = (width * 9) / 16) => {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const paint = canvas.getContext("2d");
    // Painted at 640 by 360; an upright picture shows the middle of it.
    const scale = Math.max(width / 640, height / 360);
    paint.translate((width - 640 * scale) / 2, (height - 360 * scale) / 2);
    paint.scale(scale, scale);
    const ellipse = (x, y, rx, ry, colour) => {
      paint.fillStyle = colour;
      paint.beginPath();
      paint.ellipse(x, y, rx, ry, 0, 0, 7);
      paint.fill();
    };
    const skin = `hsl(${18 + ((index * 13) % 18)} ${32 + ((index * 7) % 25)}% ${42 + ((index * 17) % 38)}%)`;
    const hair = `hsl(${(index * 59) % 50} ${15 + ((index * 23) % 40)}% ${12 + ((index * 29) % 45)}%)`;
    const draw = () => {
      const sway = 6 * Math.sin(performance.now() / 700 + index);
      const wall = paint.createLinearGradient(0, 0, 640, 360);
      wall.addColorStop(0, `hsl(${index * 47 + 190} 32% 66%)`);
      wall.addColorStop(1, `hsl(${index * 47 + 230} 36% 42%)`);
      paint.fillStyle = wall;
      paint.fillRect(0, 0, 640, 360);
      if (index % 2) ellipse(320 + sway, 190, 98, 130, hair);
      ellipse(320 + sway / 2, 400, 170, 150, `hsl(${index * 83} 42% 34%)`);
      ellipse(320 + sway, 258, 34, 48, skin);
      ellipse(320 + sway, 128, 82, 76, hair);
      ellipse(320 + sway, 172, 68, 84, skin);
      for (const side of [-1, 1]) ellipse(320 + sway + side * 27, 162, 7, 8, "#22232b");
      paint.strokeStyle = "#22232b";
      paint.lineWidth = 5;
      paint.lineCap = "round";
      paint.beginPath();
      paint.arc(320 + sway, 196, 26, 0.35, Math.PI - 0.35);
      paint.stroke();
    };
    draw();
    setInterval(draw, 1000 / fps);
    return canvas.captureStream(fps).getVideoTracks()[0];
  };
}

/** Puts a painted person before the camera. */
export function portraitForCamera({ index, width, fps }) {
  const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async ({ audio, video }) => {
    const stream = audio ? await real({ audio }) : new MediaStream();
    if (video) stream.addTrack(window.portrait(index, width, fps));
    return stream;
  };
}
