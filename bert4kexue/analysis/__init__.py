"""Mathematics that needs no model: exact statements of the posts, on NumPy arrays."""

from bert4kexue.analysis.closed_form import ClosedFormSoftmax as ClosedFormSoftmax
from bert4kexue.analysis.closed_form_files import load_closed_form as load_closed_form
from bert4kexue.analysis.closed_form_files import save_closed_form as save_closed_form
from bert4kexue.analysis.linear_regression import ClosedFormRegression as ClosedFormRegression
from bert4kexue.analysis.moments import ClassMoments as ClassMoments
from bert4kexue.analysis.moments import Moments as Moments
from bert4kexue.analysis.softmax_head import SoftmaxHead as SoftmaxHead
from bert4kexue.analysis.softmax_head import softmax_head as softmax_head
