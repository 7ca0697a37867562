// Pages opened from the disk may not start a worker. There, a hidden frame runs its script, and the two talk as a page and a worker would.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      this.frame = frame.contentWindow
      window.addEventListener("message", event => {
        if (event.source !== this.frame) return
        const message = new MessageEvent("message", { data: event.data })
        this.dispatchEvent(message)
        if (this.onmessage) this.onmessage(message)
      })
      const page = frame.contentDocument
      page.open()
      page.write(`<script>postMessage = data => parent.postMessage(data, "*")</script><script src="${url}"></script>`)
      page.close()
      this.ready = new Promise(resolve => frame.addEventListener("load", resolve, { once: true }))
    }

    postMessage(data) {
      this.ready.then(() => this.frame.dispatchEvent(new MessageEvent("message", { data, source: window })))
    }

    terminate() {
      this.frame.frameElement.remove()
    }
  }
}
