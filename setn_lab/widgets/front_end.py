"""What ipywidgets lacks, in a few lines of JavaScript each: a picture to click on, and a button that copies."""

import anywidget
import traitlets


class ClickablePicture(anywidget.AnyWidget):
    """A PNG picture that says where it was clicked.

    png: the picture's bytes. alt: what it shows, for those who cannot see it. clicked: the last click, as fractions
    [x, y] of its width and height from the upper left corner.
    """

    png = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    clicked = traitlets.List(traitlets.Float()).tag(sync=True)
    _esm = """
    function render({ model, el }) {
      const picture = document.createElement("img");
      picture.style.cssText = "max-width: 100%; cursor: crosshair";
      let url = null;
      const draw = () => {
        if (url) URL.revokeObjectURL(url);
        url = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
        picture.src = url;
        picture.alt = model.get("alt");
      };
      picture.addEventListener("click", (event) => {
        const box = picture.getBoundingClientRect();
        model.set("clicked", [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]);
        model.save_changes();
      });
      model.on("change:png", draw);
      draw();
      el.appendChild(picture);
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
