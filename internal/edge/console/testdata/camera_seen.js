(() => {
	const note = change => sessionStorage.setItem("seen", JSON.stringify(change(JSON.parse(sessionStorage.getItem("seen") ?? "{}"))));
	const more = name => note(seen => ({...seen, [name]: (seen[name] ?? 0) + 1}));
	const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
	navigator.mediaDevices.getUserMedia = async wanted => {
		if (window.refuses) throw new DOMException("", window.refuses);
		const stream = await open(wanted);
		for (const track of stream.getTracks()) {
			more("got");
			const stop = track.stop.bind(track);
			track.stop = () => { stop(); if (track.readyState === "ended") more("ended"); };
		}
		return stream;
	};
	const send = window.fetch.bind(window);
	let under = 0;
	window.fetch = async (...asked) => {
		under++;
		note(seen => ({...seen, together: Math.max(seen.together ?? 0, under)}));
		try {
			const answer = await send(...asked);
			more("frames");
			return answer;
		} finally { under--; }
	};
	document.addEventListener("securitypolicyviolation", event => note(seen => ({...seen, violated: event.violatedDirective})));
})()
