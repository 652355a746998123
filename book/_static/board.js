// Filters of the claims board. Without scripts the form stays hidden and every claim is shown.
document.querySelectorAll(".snn-board").forEach((board) => {
  const form = board.querySelector(".snn-filters");
  if (!form) return;
  const selects = [...form.querySelectorAll("select[data-filter]")];
  const rows = [...board.querySelectorAll("tbody .snn-row")];
  const shown = form.querySelector(".snn-shown");

  function apply() {
    let count = 0;
    for (const row of rows) {
      const fits = selects.every((select) => !select.value || row.dataset[select.dataset.filter] === select.value);
      row.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${rows.length} claims`;
    const query = selects.filter((s) => s.value).map((s) => `${s.dataset.filter}=${encodeURIComponent(s.value)}`);
    history.replaceState(null, "", query.length ? `#${query.join("&")}` : location.pathname + location.search);
  }

  // A link such as claims.html#verdict=open opens the board filtered.
  const wanted = new URLSearchParams(location.hash.slice(1));
  let given = false;
  for (const select of selects) {
    const value = wanted.get(select.dataset.filter);
    if (value && [...select.options].some((option) => option.value === value)) {
      select.value = value;
      given = true;
    }
    select.addEventListener("change", apply);
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  if (given) apply();
  else shown.textContent = `${rows.length} claims`;
});
