"""What ipywidgets lacks, in a few lines of JavaScript each: a picture to click on, and a button that copies."""

from typing import Any

import anywidget
import traitlets


class ClickablePicture(anywidget.AnyWidget):
    """A PNG picture that says where it was clicked, by mouse or by keyboard.

    png: the picture's bytes. alt: what it shows, for those who cannot see it. bars: what arrow keys lead to and Enter
    clicks on, each (x, y, words). clicked: the last click, [x, y, its number]. x and y are fractions of width and
    height from the upper left corner.
    """

    png = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    bars: traitlets.List[Any] = traitlets.List().tag(sync=True)
    clicked = traitlets.List(traitlets.Float()).tag(sync=True)
    # To a screen reader it is a slider over the bars, whose words are its value.
    _esm = """
    const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -Infinity, End: Infinity };
    function render({ model, el }) {
      const frame = document.createElement("div"), picture = document.createElement("img");
      const mark = document.createElement("div");
      frame.style.cssText = "position: relative; display: inline-block; max-width: 100%";
      picture.style.cssText = "max-width: 100%; cursor: crosshair; display: block";
      mark.style.cssText = "position: absolute; width: 0; height: 0; margin-left: -7px; " +
        "border: 7px solid transparent; border-bottom-color: #0072B2; border-top: 0; " +
        "pointer-events: none; display: none";
      frame.tabIndex = 0;
      frame.setAttribute("role", "slider");
      frame.setAttribute("data-lm-suppress-shortcuts", "true");  // else Enter is JupyterLab's
      let url = null, place = 0, clicks = 0;
      const tell = () => {
        const bars = model.get("bars");
        place = Math.max(0, Math.min(place, bars.length - 1));
        frame.setAttribute("aria-label", model.get("alt"));
        frame.setAttribute("aria-valuemin", 0);
        frame.setAttribute("aria-valuemax", Math.max(bars.length - 1, 0));
        frame.setAttribute("aria-valuenow", place);
        if (!bars.length) return;
        frame.setAttribute("aria-valuetext", bars[place][2]);
        mark.style.left = 100 * bars[place][0] + "%";
        mark.style.top = 100 * bars[place][1] + "%";
      };
      const draw = () => {
        if (url) URL.revokeObjectURL(url);
        url = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
        picture.src = url;
        picture.alt = model.get("alt");
      };
      const click = (x, y) => {
        model.set("clicked", [x, y, ++clicks]);
        model.save_changes();
      };
      picture.addEventListener("click", (event) => {
        const box = picture.getBoundingClientRect();
        click((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
      });
      frame.addEventListener("focus", () => { if (model.get("bars").length) mark.style.display = "block"; });
      frame.addEventListener("blur", () => { mark.style.display = "none"; });
      frame.addEventListener("keydown", (event) => {
        const bars = model.get("bars");
        if (event.key in STEPS) place += STEPS[event.key];
        else if ((event.key === "Enter" || event.key === " ") && bars.length) click(bars[place][0], bars[place][1]);
        else return;
        event.preventDefault();
        event.stopPropagation();
        tell();
      });
      model.on("change:png", draw);
      model.on("change:bars", tell);
      draw();
      tell();
      frame.append(picture, mark);
      el.appendChild(frame);
      return () => URL.revokeObjectURL(url);
    }
    export default { render };
    """


class CopyButton(anywidget.AnyWidget):
    """A button that puts `text` on the clipboard and says so; `label` is what it is called."""

    label = traitlets.Unicode("copy").tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
    # A page that is not served over https or from this machine has no clipboard: there the text is offered marked.
    _esm = """
    function render({ model, el }) {
      const button = document.createElement("button");
      button.className = "lm-Widget jupyter-widgets jupyter-button widget-button";
      const name = () => { button.textContent = model.get("label"); button.disabled = !model.get("text"); };
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(model.get("text"));
          button.textContent = "copied";
          setTimeout(name, 1500);
        } catch {
          window.prompt(model.get("label"), model.get("text"));
        }
      });
      model.on("change:text", name);
      name();
      el.appendChild(button);
    }
    export default { render };
    """
