// Sends a data set in parts, straight to the store where it lets this page. After a lost connection, or a closed page,
// the same file goes on where it was.
"use strict";

const form = document.querySelector("form[data-upload]");
const atOnce = 3; // parts on their way to the store; through the service one at a time

class Refused extends Error {}

async function ask(path, options) {
  const answer = await fetch(path, options);
  const isJson = (answer.headers.get("content-type") ?? "").includes("json");
  const said = isJson ? await answer.json() : {};
  if (!answer.ok) throw new Refused(said.detail ?? "Your login has ended. Log in again and send the same file: it goes on.");
  return said;
}

const post = (path, body) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

function remembered(name) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? null;
  } catch {
    return null;
  }
}

async function begun(name, root, token, body) {
  const known = remembered(name);
  if (known) {
    const found = await ask(`${root}uploads/${known.id}`).catch(() => null);
    if (found?.status === "pending") return { linked: {}, ...known };
  }
  const made = await post(`${root}uploads?token=${token}`, body);
  return { id: made.id, parts: {}, linked: {} };
}

class Sending {
  constructor(file, size, upload, name, path, token, tell) {
    Object.assign(this, { file, size, upload, name, path, token, tell, next: 0, sent: 0 });
    this.count = Math.ceil(file.size / size);
    this.straight = Boolean(form.dataset.straightTo);
  }

  async all() {
    for (let at = 0; at < this.count; at += 1) if (this.upload.parts[at]) this.sent += this.bytes(at).size;
    this.tell(this.sent, this.file.size);
    await this.some(); // the first part tells whether the store lets us
    const others = this.straight ? atOnce : 1;
    await Promise.all(Array.from({ length: others }, () => this.some(Infinity)));
    return Array.from({ length: this.count }, (_, at) => this.upload.parts[at]);
  }

  async some(most = 1) {
    for (let done = 0; done < most && this.next < this.count; ) {
      const at = this.next;
      this.next += 1;
      if (this.upload.parts[at]) continue;
      const id = (this.straight && (await this.toStore(at))) || (await this.toService(at));
      this.upload.parts[at] = id;
      this.keep();
      this.sent += this.bytes(at).size;
      this.tell(this.sent, this.file.size);
      done += 1;
    }
  }

  async toStore(at) {
    const data = this.bytes(at);
    const known = this.upload.linked[at];
    const path = `${this.path}/parts/${known ? `${known}/` : ""}presign?token=${this.token}`;
    const link = await (known ? ask(path, { method: "POST" }) : post(path, { bytes: data.size }));
    this.upload.linked[at] = link.id;
    this.keep();
    try {
      const answer = await fetch(link.url, { method: link.method, body: data, credentials: "omit" });
      if (answer.ok) return link.id;
    } catch {
      // No connection, or the store lets no pages of others send to it: the service tells which.
    }
    this.straight = false;
    return null;
  }

  async toService(at) {
    const data = new FormData();
    data.append("data", this.bytes(at));
    return (await ask(`${this.path}/parts?token=${this.token}`, { method: "POST", body: data })).id;
  }

  bytes(at) {
    return this.file.slice(at * this.size, (at + 1) * this.size);
  }

  keep() {
    localStorage.setItem(this.name, JSON.stringify(this.upload));
  }
}

async function send(file, tell) {
  const { root, token, part } = form.dataset;
  const options = { on_bad_files: form.on_bad_files.value, splits: form.splits.value };
  const name = `difftune-upload:${file.name}:${file.size}:${file.lastModified}:${Object.values(options)}`;
  const body = { filename: file.name, bytes: file.size, purpose: "fine-tune", ...options };
  const upload = await begun(name, root, token, body);
  const path = `${root}uploads/${upload.id}`;
  const ids = await new Sending(file, Number(part), upload, name, path, token, tell).all();
  const done = await post(`${path}/complete?token=${token}`, { part_ids: ids });
  localStorage.removeItem(name);
  return `${root}datasets/${done.file.id}`;
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = form.querySelector("[data-said]");
  const bar = form.querySelector("progress");
  const button = form.querySelector("button");
  const tell = (sent, all) => {
    bar.hidden = false;
    bar.max = all;
    bar.value = sent;
    said.textContent = `${Math.floor((100 * sent) / all)} % sent`;
  };
  button.disabled = true;
  try {
    location.href = await send(form.file.files[0], tell);
  } catch (error) {
    bar.hidden = true;
    said.textContent =
      error instanceof Refused ? error.message : "The connection was lost. Send the same file again: it goes on where it was.";
    button.disabled = false;
  }
});
