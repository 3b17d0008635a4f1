// Look at reports with a browser: axe-core, the keyboard, wide and narrow, light and dark, print.
//
// It needs node, Chromium, and two packages, which may be in any folder:
//
//     npm install --prefix /tmp/axe axe-core puppeteer-core
//     NODE_PATH=/tmp/axe/node_modules node bench/report_axe.mjs OUT runs/demo/report/index.html ...
//
// CHROMIUM names the browser (default: /usr/bin/chromium). Screenshots and PDFs go to the folder OUT.
// One line is printed for each finding; the exit status is 1 if there is any.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const puppeteer = require("puppeteer-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [out, ...files] = process.argv.slice(2);
fs.mkdirSync(out, { recursive: true });
let findings = 0;

function found(where, what) {
  findings += 1;
  console.log(`${where}: ${what}`);
}

/** A page in a window of this width, and what it requests beside itself. */
async function open(browser, file, width, scheme) {
  const page = await browser.newPage();
  await page.setViewport({ width, height: 900, isMobile: width < 500 });
  await page.emulateMediaFeatures([
    { name: "prefers-color-scheme", value: scheme },
    { name: "prefers-reduced-motion", value: "reduce" },
  ]);
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(pathToFileURL(file).href);
  const outside = requests.filter((url) => !url.startsWith("data:")).slice(1);
  return { page, outside };
}

/** Every rule of axe-core, with all tables open. */
async function check(page, where) {
  await page.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = true)));
  const over = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  if (over > 0) found(where, `is ${over} pixels wider than the window`);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document));
  for (const { impact, id, nodes } of violations)
    found(where, `${impact} ${id}, ${nodes.length} times, first ${nodes[0].target.join(" ")}`);
}

/** Tab through the page: everything that can be used is reached in order and shows its focus. */
async function walk(page, where) {
  await page.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = false)));
  const usable = await page.evaluate(() => document.querySelectorAll("a[href], summary").length);
  for (let reached = 0; reached < usable; reached += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate((index) => {
      const all = [...document.querySelectorAll("a[href], summary")];
      const box = document.activeElement.getBoundingClientRect();
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return {
        next: all[index] === document.activeElement,
        shown: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && box.width > 0,
        inside: box.bottom > 0 && box.top < innerHeight && box.left >= 0 && box.right <= innerWidth,
        name: document.activeElement.textContent.trim().slice(0, 60),
      };
    }, reached);
    if (!at.next) return found(where, `Tab ${reached + 1} goes to "${at.name}", out of order`);
    if (!at.shown || !at.inside) found(where, `the focus on "${at.name}" is not seen`);
    if (reached === 0 && !at.name.startsWith("Skip")) found(where, "the first link does not skip");
  }
  await page.focus("summary");
  await page.keyboard.press("Enter");
  if (!(await page.evaluate(() => document.activeElement.parentElement.open)))
    found(where, "Enter does not open a table");
}

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });
for (const [number, file] of files.entries()) {
  for (const width of [1280, 390])
    for (const scheme of ["light", "dark"]) {
      const where = `${file}, ${width}, ${scheme}`;
      const { page, outside } = await open(browser, file, width, scheme);
      for (const url of outside) found(where, `asks for ${url}`);
      const shot = path.join(out, `${number}-${width}-${scheme}.png`);
      await page.screenshot({ path: shot, fullPage: true });
      await check(page, where);
      await page.close();
    }
  const { page } = await open(browser, file, 1280, "light");
  await walk(page, `${file}, keyboard`);
  await page.close();
  const printed = (await open(browser, file, 1280, "dark")).page;
  await printed.pdf({ path: path.join(out, `${number}.pdf`), format: "A4" });
  await printed.close();
}
await browser.close();
console.log(`${files.length} pages, ${findings} findings`);
process.exit(findings ? 1 : 0);
