var tip = document.getElementById("tip");
document.addEventListener("pointermove", function (event) {
  var at = event.target.closest ? event.target.closest("[data-tip]") : null;
  if (!at) { tip.style.visibility = "hidden"; return; }
  tip.textContent = at.getAttribute("data-tip");
  var left = Math.min(event.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
  var top = event.clientY + 18;
  if (top + tip.offsetHeight > window.innerHeight) top = event.clientY - tip.offsetHeight - 12;
  tip.style.left = Math.max(4, left) + "px";
  tip.style.top = top + "px";
  tip.style.visibility = "visible";
});

// a live page asks its server for itself and takes over what has changed, details left as they are
if (document.body.hasAttribute("data-live")) {
  var told = document.getElementById("live"), seen = "";
  var openDetails = function (main) {
    return Array.from(main.querySelectorAll("details[open] > summary"), function (s) { return s.textContent; });
  };
  var take = function (text) {
    var main = document.querySelector("main"), open = openDetails(main), at = document.activeElement.id;
    var fresh = new DOMParser().parseFromString(text, "text/html").querySelector("main");
    fresh.querySelectorAll("summary").forEach(function (s) {
      if (open.indexOf(s.textContent) >= 0) s.parentNode.open = true;
    });
    main.replaceWith(document.adoptNode(fresh));
    if (at && document.getElementById(at)) document.getElementById(at).focus({preventScroll: true});
  };
  setInterval(function () {
    fetch(location.href).then(function (answer) {
      return answer.text().then(function (text) {
        if (!answer.ok) { told.textContent = text; return; }
        if (text !== seen && seen) take(text);
        seen = text;
        told.textContent = "live, " + new Date().toLocaleTimeString();
      });
    }).catch(function () { told.textContent = "no answer: llmsr watch has ended"; });
  }, 3000);
}
