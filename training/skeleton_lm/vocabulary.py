"""The words that random specs are made of: quantities and their usual names, things, syllables, units."""

from __future__ import annotations

# the sort of quantity by a word of its description, first match
KIND_WORDS = (
    ("position", "position displacement coordinate state"),
    ("temperature", "temperature redshift"),
    ("acidity", "pH salinity"),
    ("velocity", "velocity speed"),
    ("angle", "angle phase elevation latitude"),
    ("time", "time age cycles"),
    ("concentration", "concentration dose humidity moisture mixing fraction"),
    ("population", "population biomass predators prey species"),
    ("light", "light luminosity rainfall leaf"),
    ("strain", "strain damage stress load"),
    ("rate", "rate flow Reynolds frequency price income"),
    (
        "size",
        "length mass radius distance height area volume thickness size depth density viscosity pressure",
    ),
    ("signal", "voltage current potential signal charge field force torque error"),
)
# words of a target that make a product of factors, or a sum of terms, the likelier form
PRODUCT_WORDS = (
    "growth",
    "rate",
    "yield",
    "activity",
    "stress",
    "conductivity",
    "uptake",
    "mortality",
    "viscosity",
)
SUM_WORDS = (
    "acceleration",
    "force",
    "torque",
    "velocity",
    "derivative",
    "signal",
    "price",
    "voltage",
    "energy",
)


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.replace("\n", " ").split(";")]


# description | whether it can be negative | usual names
_TABLE = """
position|-|x pos position q displacement s_pos y
displacement|-|x u d disp displacement
velocity|-|v vel velocity x_dot dx u speed_x
angular velocity|-|omega w ang_vel theta_dot
angle|-|theta phi alpha angle a
acceleration|-|a acc accel g_x
force|-|F f force load
torque|-|tau torque M
voltage|-|V U volt voltage v_in
current|-|I i current amp
charge|-|q Q charge
temperature difference|-|dT delta_T dtemp
membrane potential|-|V Vm v_m potential
latitude|-|lat latitude
input signal|-|u x inp signal s
state of the system|-|x y z state x1 x2 x3
price change|-|dp r ret change
first coordinate|-|x x1 x0 q1
second coordinate|-|y x2 x1 q2
third coordinate|-|z x3 x2 q3
phase|-|phi phase psi
strain rate deviation|-|eps_dot e_dev dev
vertical position|-|z h y height
magnetic field|-|B b_field H
water potential|-|psi psi_w wp
net charge|-|z z_net net
error signal|-|e err error
slope|-|m_s slope grad
time|+|t time time_s tau hours
time since the start|+|t t_h time elapsed
temperature|+|T temp temperature temp_C T_c theta Temp
temperature in degrees Celsius|+|temp T temp_C Tc
absolute temperature|+|T T_K temp_K kelvin
pressure|+|p P pressure press p_kPa
density|+|rho density d dens
mass|+|m mass mass_kg M
body mass|+|m mass mass_kg W weight
length|+|L l length len_m
height|+|h height H z
radius|+|r R radius rad
distance|+|r d dist distance R
depth|+|z d depth h
area|+|A area S a_m2
volume|+|V vol volume
concentration|+|c C conc concentration c0
concentration of the substrate|+|s S substrate sub c_s
concentration of the nutrient|+|n N nutrient s
concentration of the inhibitor|+|i I inhib inhibitor c_i
concentration of the product|+|p P product prod
concentration of oxygen|+|o o2 O2 oxygen do
concentration of the reactant A|+|a A cA c_a ca
concentration of the reactant B|+|b B cB c_b cb
concentration of the enzyme|+|e E enzyme e0
concentration of the catalyst|+|k cat catalyst c_cat
population density|+|b n N pop density x
population size|+|N n pop population P
biomass|+|b x X biomass B
number of predators|+|y p pred predators P
number of prey|+|x n prey N
pH|+|pH ph acidity
salinity|+|S sal salinity
humidity|+|h rh RH humidity
light intensity|+|I light L par irradiance
wind speed|+|u w wind v_wind ws
flow rate|+|Q q flow flow_rate
frequency|+|f freq omega nu w
wavelength|+|lam wavelength wl
strain|+|e strain eps epsilon
strain rate|+|rate strain_rate edot eps_dot
stress|+|s stress sigma sig
grain size|+|d grain grain_size
porosity|+|n phi porosity por
moisture content|+|w moisture theta mc
dose|+|d dose D
age|+|a age age_y
energy|+|E energy e
power|+|P power pw
speed|+|v speed U vel
Reynolds number|+|Re re reynolds
stiffness|+|k K stiffness
resistance|+|R r res resistance
capacitance|+|C cap c_f
viscosity|+|mu eta visc viscosity
thickness|+|h t_mm thickness thick
price|+|p price P
income|+|y inc income
interest rate|+|r i rate
rainfall|+|r P rain rainfall
leaf area index|+|LAI lai L
soil temperature|+|Ts soil_temp T_soil
solar elevation|+|h elev solar
redshift|+|z redshift
luminosity|+|L lum
number of neurons|+|n N n_units
load|+|w load F_n
ratio of the two species|+|r ratio q
damage|+|D dmg damage
number of cycles|+|N cycles n_cyc
mixing ratio|+|x mix phi frac
volume fraction|+|phi f vf frac
"""
QUANTITIES = [tuple(line.split("|")) for line in _TABLE.strip().splitlines()]
TARGETS = _items(
    """
    acceleration; force; growth rate; stress; rate of the reaction; heat flux; velocity; population
    growth rate; torque; pressure drop; voltage; current; uptake rate; yield; energy; rate of change;
    flow rate; lift coefficient; drag; signal; power output; response; enzyme activity; stress response;
    firing rate; evaporation rate; damping force; photosynthesis rate; mortality; dose response;
    conductivity; viscosity; price; demand; density; metabolic rate; derivative of the state; angular
    acceleration; friction coefficient; decay rate; wear rate; torque ripple; efficiency
    """
)
OBJECTS = _items(
    """
    oscillator; bacteria; population; pendulum; spring; rod; material; reactor; fluid; medium; circuit;
    plant; cell; neuron; beam; turbine; battery; star; particle; membrane; enzyme; soil; crop; forest;
    lake; glacier; engine; sensor; polymer; alloy; specimen; gas; liquid; catalyst; tissue; patient;
    market; vehicle; rotor; plasma; wire; column; bridge; colony; culture; yeast; algae; fish stock;
    insect; disease; drop; bubble; film; crystal; steel specimen; aluminium alloy; nonlinear oscillator;
    damped oscillator; driven oscillator; bacterial culture; chemical reaction; predator-prey system;
    system; process
    """
)
ADJECTIVES = _items(
    """
    nonlinear; damped; driven; coupled; forced; stiff; slow; fast; stable; unstable; open; closed;
    ideal; real; small; large; wet; dry; warm; cold; saturated; porous; charged; rotating; elastic;
    viscous; turbulent; chaotic; synthetic; measured
    """
)
SYLLABLES = _items(
    """
    ba; ce; di; fo; gu; ka; le; mi; no; pu; ra; se; ti; vo; xa; ze; lin; tor; mag; rho; eta; del; sig;
    bet; om; ne; va; q; z; w
    """
)
GREEK = _items(
    """
    alpha; beta; gamma; delta; epsilon; zeta; eta; theta; kappa; lam; mu; nu; xi; rho; sigma; tau; phi;
    chi; psi; omega
    """
)
UNITS = _items(
    """
    kg; m; s; K; C; mm; pa; kpa; mol; l; hz; rad; deg; 0; 1; 2; 3; in; out; max; eff; rel; norm; a; b
    """
)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIKLMNPQRSTUVWXYZ"
