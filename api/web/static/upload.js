// Sends a data set in parts. After a lost connection, or a closed page, the same file goes on where it was.
"use strict";

const form = document.querySelector("form[data-upload]");

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
    if (found?.status === "pending") return known;
  }
  const made = await post(`${root}uploads?token=${token}`, body);
  return { id: made.id, parts: {} };
}

async function send(file, tell) {
  const { root, token, part } = form.dataset;
  const size = Number(part);
  const options = { on_bad_files: form.on_bad_files.value, splits: form.splits.value };
  const name = `difftune-upload:${file.name}:${file.size}:${file.lastModified}:${Object.values(options)}`;
  const body = { filename: file.name, bytes: file.size, purpose: "fine-tune", ...options };
  const upload = await begun(name, root, token, body);
  const count = Math.ceil(file.size / size);
  for (let at = 0; at < count; at += 1) {
    tell(at * size, file.size);
    if (upload.parts[at]) continue;
    const data = new FormData();
    data.append("data", file.slice(at * size, (at + 1) * size));
    const made = await ask(`${root}uploads/${upload.id}/parts?token=${token}`, { method: "POST", body: data });
    upload.parts[at] = made.id;
    localStorage.setItem(name, JSON.stringify(upload));
  }
  const ids = Array.from({ length: count }, (_, at) => upload.parts[at]);
  const done = await post(`${root}uploads/${upload.id}/complete?token=${token}`, { part_ids: ids });
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
