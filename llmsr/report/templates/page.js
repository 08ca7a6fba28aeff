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
