// Light or dark: what the system prefers, unless the button says otherwise.
const root = document.documentElement;
const plots = [...document.querySelectorAll(".plot")];
const { templates, config } = JSON.parse(document.getElementById("dress").textContent);
const themeButton = document.getElementById("theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

const isDark = () => (root.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";

const nameTheme = () => {
  const other = isDark() ? "light" : "dark";
  themeButton.textContent = other === "light" ? "Light" : "Dark";
  themeButton.setAttribute("aria-label", `Switch to ${other} colours`);
};

themeButton.hidden = false;
nameTheme();
