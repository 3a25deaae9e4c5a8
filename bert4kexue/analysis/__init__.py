"""Mathematics that needs no model: exact statements of the posts, on NumPy arrays."""

from bert4kexue.analysis.closed_form import ClosedFormSoftmax as ClosedFormSoftmax
from bert4kexue.analysis.closed_form_files import load_closed_form as load_closed_form
from bert4kexue.analysis.closed_form_files import save_closed_form as save_closed_form
from bert4kexue.analysis.distortion import distortion_report as distortion_report
from bert4kexue.analysis.distortion import recall_at as recall_at
from bert4kexue.analysis.distortion import smallest_dimension as smallest_dimension
from bert4kexue.analysis.johnson_lindenstrauss import exact_dim as exact_dim
from bert4kexue.analysis.johnson_lindenstrauss import exact_failure as exact_failure
from bert4kexue.analysis.johnson_lindenstrauss import head_size_rule as head_size_rule
from bert4kexue.analysis.johnson_lindenstrauss import jl_dim as jl_dim
from bert4kexue.analysis.johnson_lindenstrauss import jl_failure_bound as jl_failure_bound
from bert4kexue.analysis.linear_regression import ClosedFormRegression as ClosedFormRegression
from bert4kexue.analysis.moments import ClassMoments as ClassMoments
from bert4kexue.analysis.moments import Moments as Moments
from bert4kexue.analysis.projections import project as project
from bert4kexue.analysis.projections import projection_matrix as projection_matrix
from bert4kexue.analysis.randomized_svd import randomized_svd as randomized_svd
from bert4kexue.analysis.sign_hash import agreement as agreement
from bert4kexue.analysis.sign_hash import cosine_of_agreement as cosine_of_agreement
from bert4kexue.analysis.sign_hash import expected_agreement as expected_agreement
from bert4kexue.analysis.sign_hash import sign_hash as sign_hash
from bert4kexue.analysis.softmax_head import SoftmaxHead as SoftmaxHead
from bert4kexue.analysis.softmax_head import softmax_head as softmax_head
